"""The server's ledger of whole sites: charged before the sum, counted on after a crash, missed when it is gone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from server.aggregation import SiteUpdate
from server.protection import LEDGER, Protection
from server.rounds import Observer
from server.state import ServerState
from socket_core.config import Experiment, parse_experiment
from socket_core.errors import FederationError, PrivacyError
from socket_core.privacy.ledger import BudgetError, Ledger
from tests.server.builders import Bench, Kill, World, short_bench, site_update


def kill_after(step: str, round_: int) -> Observer:
    """Ends the run as a kill would, when ``step`` of a round is over."""

    def observe(name: str, facts: dict[str, Any]) -> None:
        if (name, facts.get("round")) == (step, round_):
            raise Kill

    return observe


def bench_of(world: World, folder: Path, **asked: Any) -> Bench:
    """Two rounds at three sites."""
    site_privacy = {"clip": 1.0, "sigma": 2.0} | asked
    return short_bench(world, folder, federation__weighting="equal", site_privacy=site_privacy)


def forget(home: Path) -> None:
    """Takes the whole ledger away."""
    for file in home.glob("site-level.*"):
        file.unlink()


# --- in a federation --------------------------------------------------------------------------------


def test_a_crash_before_the_checkpoint_is_counted_and_the_run_goes_on(world: World, tmp_path: Path) -> None:
    bench = bench_of(world, tmp_path, spare_rounds=1)
    with pytest.raises(Kill):  # after the sum, and nothing of it is on the disk
        bench.run(observe=kill_after("aggregated", 2))
    assert bench.run(resume="yes").round == 2
    assert [record["site_privacy"]["charged"] for record in bench.records()] == [1, 3]
    assert len(Ledger(bench.job_home / LEDGER, create=False).charges()) == 3


def test_without_spare_rounds_a_round_cannot_be_done_again(world: World, tmp_path: Path) -> None:
    bench = bench_of(world, tmp_path)
    with pytest.raises(Kill):
        bench.run(observe=kill_after("aggregated", 2))
    with pytest.raises(FederationError, match="policy"):  # the sites refuse first, each by its own ledger
        bench.run(resume="yes")
    assert len(Ledger(bench.job_home / LEDGER, create=False).charges()) == 2


def test_a_crash_after_the_checkpoint_costs_nothing(world: World, tmp_path: Path) -> None:
    bench = bench_of(world, tmp_path)
    with pytest.raises(Kill):
        bench.run(observe=kill_after("checkpoint saved", 1))
    assert bench.run(resume="yes").round == 2
    assert [record["site_privacy"]["charged"] for record in bench.records()] == [1, 2]


def test_checkpoints_without_their_ledger_are_refused_and_left_alone(world: World, tmp_path: Path) -> None:
    bench = bench_of(world, tmp_path)
    bench.run()
    kept = sorted((bench.job_home / "checkpoints").iterdir())
    forget(bench.job_home)
    for resume in ("yes", "auto", "no"):
        with pytest.raises(PrivacyError, match="is gone") as caught:
            bench.run(resume=resume)
        assert caught.value.where == str(bench.job_home / LEDGER)
    assert sorted((bench.job_home / "checkpoints").iterdir()) == kept
    assert not (bench.job_home / LEDGER).exists()
    Ledger(bench.job_home / LEDGER)  # one that counts from the start again
    with pytest.raises(PrivacyError, match="the checkpoint is of round 2, the ledger has 0 of its rounds"):
        bench.run(resume="yes")


# --- by itself --------------------------------------------------------------------------------------


def experiment(**asked: Any) -> Experiment:
    raw = {
        "federation": {"sites": 3, "rounds": 2, "weighting": "equal"},
        "site_privacy": {"clip": 1.0, "sigma": 2.0} | asked,
    }
    return parse_experiment(raw, where="test")


def updates(*sites: str) -> list[SiteUpdate]:
    return [site_update(site, 1, np.zeros(4)) for site in sites]


def test_a_round_too_many_is_refused_before_noise_is_drawn(tmp_path: Path) -> None:
    protection = Protection(experiment(), tmp_path, released=False)
    for charged in (1, 2):
        blur, facts = protection.spend("job", updates("a", "b"))
        assert facts["site_privacy"]["charged"] == charged
        assert blur.noise is not None
        assert (blur.divisor, blur.clip, blur.noise(4).shape) == (3, 1.0, (4,))
    with pytest.raises(BudgetError, match="whole site") as caught:
        protection.spend("job", updates("a", "b", "c"))
    assert caught.value.where == "site_privacy"
    assert "spare_rounds" in caught.value.remedy
    assert protection.spend("another", updates("a"))[1]["site_privacy"]["charged"] == 1


def test_noise_is_never_drawn_twice(tmp_path: Path) -> None:
    protection = Protection(experiment(), tmp_path, released=False)
    one, other = (protection.spend("job", updates("a"))[0].noise for _ in range(2))
    assert one is not None
    assert other is not None
    drawn = [one(50), one(50), other(50)]
    assert len(np.unique(drawn)) == 150


def test_a_ledger_with_more_rounds_than_the_checkpoint_is_as_it_should_be(tmp_path: Path) -> None:
    protection = Protection(experiment(), tmp_path, released=False)
    protection.spend("job", updates("a"))
    empty = np.zeros(0, np.float32)
    protection.check(ServerState("job", 0, empty))
    protection.check(ServerState("job", 1, empty))
    with pytest.raises(PrivacyError, match="of round 2"):
        protection.check(ServerState("job", 2, empty))


def test_an_experiment_that_went_round_the_validation_is_refused(tmp_path: Path) -> None:
    whole = experiment()
    federation = whole.federation.model_copy(update={"bn_policy": "pooled"})
    with pytest.raises(PrivacyError, match=r"federation\.bn_policy pooled"):
        Protection(whole.model_copy(update={"federation": federation}), tmp_path, released=False)
