"""Which round belongs to which stage, and that both stages together take the rounds of any other method."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from socket_core.config import Experiment
from socket_core.stages import Place, bridge_rounds, federated_rounds, place_of, rounds_of, shares_bridge
from tests.core.builders import METHOD_NAMES, experiment


def _job(
    exchange: str = "shared", kind: str = "unet", rounds: int = 5, translator: int = 2, name: str = "tgkt"
) -> Experiment:
    section = {"exchange": exchange, "kind": kind, "rounds": translator}
    return experiment(method__name=name, method__translator=section, federation__rounds=rounds)


def test_a_shared_translator_has_rounds_of_its_own() -> None:
    job = _job("shared")
    assert (bridge_rounds(job), rounds_of(job), federated_rounds(job), shares_bridge(job)) == (2, 5, 5, True)
    assert [place_of(job, r) for r in range(1, 6)] == [
        Place("bridge", 1, 2),
        Place("bridge", 2, 2),
        Place("adapt", 1, 3),
        Place("adapt", 2, 3),
        Place("adapt", 3, 3),
    ]


def test_a_local_translator_takes_rounds_in_which_nothing_travels() -> None:
    job = _job("local")
    assert (bridge_rounds(job), rounds_of(job), federated_rounds(job), shares_bridge(job)) == (2, 5, 3, False)
    assert [place_of(job, r) for r in range(1, 4)] == [Place("adapt", r, 3) for r in range(1, 4)]


@pytest.mark.parametrize("exchange", ["shared", "local"])
def test_plain_replication_has_nothing_to_learn(exchange: str) -> None:
    job = _job(exchange, "replicate")
    assert (bridge_rounds(job), federated_rounds(job), shares_bridge(job)) == (0, 5, False)
    assert place_of(job, 1) == Place("adapt", 1, 5)


@pytest.mark.parametrize("name", [n for n in METHOD_NAMES if n != "tgkt"])
def test_other_methods_have_one_stage(name: str) -> None:
    job = _job(name=name)
    rounds = 1 if name in ("unadapted", "adabn") else 5
    assert (bridge_rounds(job), rounds_of(job), federated_rounds(job), shares_bridge(job)) == (0, rounds, rounds, False)
    assert [place_of(job, r) for r in range(1, rounds + 1)] == [Place("adapt", r, rounds) for r in range(1, rounds + 1)]


@given(st.data(), st.sampled_from(["shared", "local"]), st.sampled_from(["unet", "paper", "replicate"]))
def test_both_stages_together_take_the_rounds_of_any_method(data: st.DataObject, exchange: str, kind: str) -> None:
    rounds = data.draw(st.integers(2, 20))
    job = _job(exchange, kind, rounds, data.draw(st.integers(1, rounds - 1)))
    places = [place_of(job, r) for r in range(1, federated_rounds(job) + 1)]
    at_the_site = 0 if shares_bridge(job) else bridge_rounds(job)
    assert at_the_site + len(places) == rounds == rounds_of(_job(name="socket", rounds=rounds))
    for stage in ("bridge", "adapt"):
        mine = [p for p in places if p.stage == stage]
        assert [p.round for p in mine] == list(range(1, len(mine) + 1))
        assert all(p.rounds == len(mine) for p in mine)
    assert [p.stage for p in places] == sorted((p.stage for p in places), reverse=True)  # bridge first
    assert any(p.stage == "adapt" for p in places)
