"""DP in the adaptation loop: charged whole and ahead, nothing told of pairs, refused where it is not accounted."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from socket_core.config import Experiment
from socket_core.engine import adapt, make_bridge
from socket_core.errors import ConfigError, PrivacyError
from socket_core.methods.socket import Socket
from socket_core.models import Network
from socket_core.privacy import dp_step
from socket_core.privacy.accounting import Event
from socket_core.privacy.dp_step import prepare
from tests.core.builders import CPU, ONE_ROUND, changed, experiment, site_data, snapshot, statistics, tiny_network
from tests.privacy.builders import PRIVATE, Purse, private


def run(job: Experiment, purse: Purse | None) -> tuple[Network, dict[str, float], int]:
    network = tiny_network()
    report = adapt(network, tiny_network(), site_data(), job, ONE_ROUND, budget=purse)
    return network, report.losses, report.visits


@pytest.mark.parametrize("name", ["socket", "tgkt"])
def test_a_round_is_charged_whole_and_reports_nothing_of_the_pairs(name: str) -> None:
    purse, network = Purse(), tiny_network()
    job = private(method__name=name, method__translator__kind="replicate")
    bridge = make_bridge(job, network)
    report = adapt(network, tiny_network(), site_data(), job, ONE_ROUND, budget=purse, bridge=bridge)
    assert purse.charged == [Event(1.0, 0.5, 3)]
    assert "ti" not in report.losses
    assert report.visits == 3 * (6 + 4)


def test_running_statistics_are_those_of_a_job_that_never_saw_the_pairs() -> None:
    """With a rate of TI steps so small that weights do not move, buffers are bit-identical."""
    with_pairs, _, _ = run(private(privacy__lr=1e-30), Purse())
    without, _, _ = run(private(method__weights__ti=0.0), None)
    differ = changed(snapshot(without), snapshot(with_pairs))
    assert not statistics(differ)


def test_a_job_of_ti_steps_alone_runs() -> None:
    weights = {f"method__weights__{term}": 0.0 for term in ("pl", "im", "bn")}
    network, losses, _ = run(private(**weights), Purse())
    assert losses == {}
    assert {n for n in changed(snapshot(tiny_network()), snapshot(network)) if "running" not in n} >= {
        "bottleneck.0.weight"
    }


def test_without_a_ledger_nothing_is_trained() -> None:
    network = tiny_network()
    before = snapshot(network)
    with pytest.raises(PrivacyError, match="no ledger"):
        adapt(network, tiny_network(), site_data(), private(), ONE_ROUND)
    assert not changed(before, snapshot(network))


def test_a_refused_charge_leaves_pairs_and_network_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    class Empty(Purse):
        def charge(self, event: Event, **about: str | float) -> None:
            raise PrivacyError("used up")

    def looked(*_: object) -> None:
        raise AssertionError("pairs were looked at")

    monkeypatch.setattr(dp_step, "Records", looked)
    network = tiny_network()
    before = snapshot(network)
    with pytest.raises(PrivacyError, match="used up"):
        adapt(network, tiny_network(), site_data(), private(), ONE_ROUND, budget=Empty())
    assert not changed(before, snapshot(network))


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"method__ti_loss": "frobenius"}, "frobenius"),
        ({"method__trust": "agreement"}, "method.trust"),
        ({"method__name": "tgkt"}, "translator.weights.domain"),
        ({"privacy__epsilon": 3.0}, "epsilon or sigma"),
        ({"privacy__sigma": 0.1}, "sigma"),
    ],
)
def test_an_experiment_with_a_use_that_is_not_accounted_is_refused(changes: dict[str, Any], named: str) -> None:
    values = {**copy.deepcopy(PRIVATE), "federation__rounds": 2, **changes}
    with pytest.raises(ConfigError, match=named):
        experiment(**values)


def test_the_engine_refuses_what_went_round_the_validation() -> None:
    job = private()
    smuggled = job.model_copy(update={"method": job.method.model_copy(update={"ti_loss": "frobenius"})})
    with pytest.raises(PrivacyError, match="frobenius"):
        run(smuggled, Purse())


def test_a_subclass_has_to_say_anew_that_its_terms_are_of_one_pair() -> None:
    class Other(Socket):
        name = "other"

    job = private()
    method = Other(job.method, "local")
    method.configure(tiny_network(), tiny_network())
    with pytest.raises(PrivacyError, match="other has no DP step"):
        prepare(method, site_data().ti, job, 3, Purse(), CPU)


def test_without_the_section_the_digest_is_what_it_was() -> None:
    assert experiment().digest() == experiment(privacy=None).digest() != private().digest()
    assert '"privacy"' not in experiment().model_dump_json(exclude={"privacy": True})


def test_fewer_ti_steps_than_optimiser_steps_are_charged_and_counted() -> None:
    purse = Purse()
    _, _, visits = run(private(privacy__every=2), purse)
    assert purse.charged == [Event(1.0, 0.5, 1)]  # of three optimiser steps the second
    assert visits == 3 * 6 + 4


def test_an_interval_longer_than_a_round_is_refused() -> None:
    with pytest.raises(ConfigError, match="no TI step in 3 steps"):
        private(privacy__every=4)


def test_the_log_tells_how_loud_the_signal_was(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", logger="socket_fl.privacy"):
        run(private(privacy__sigma=1000.0), Purse())
    said = [r for r in caplog.records if "signal was" in r.getMessage()]
    assert len(said) == 1
    assert said[0].levelname == "WARNING"


def test_at_level_debug_the_log_tells_it_of_each_step(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("DEBUG", logger="socket_fl.privacy"):
        run(private(privacy__sigma=1000.0), Purse())
    assert sum(r.levelname == "DEBUG" and "TI step under DP" in r.getMessage() for r in caplog.records) == 3
