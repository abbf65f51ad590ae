"""DP at a site: every round is charged, the budget outlives runs, and policy and audit say so."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from typer.testing import CliRunner

from client.alone import adapt_alone
from client.cli import app
from client.site import open_deployed
from socket_core.config import Experiment
from socket_core.errors import FederationError, PolicyError, PrivacyError
from socket_core.privacy.accounting import Event, rdp_epsilon
from socket_core.privacy.ledger import BudgetError, Ledger
from tests.client.builders import Deployment
from tests.server.builders import Bench, World, experiment_with

PRIVACY: dict[str, Any] = {
    "method__name": "socket",
    "method__trust": "always",
    "privacy": {"sigma": 2.0, "sample_rate": 0.5, "expected_batch": 4},
    "federation__rounds": 2,
    "federation__steps": 2,
}
DELTA = 1e-5
ONE_RUN = rdp_epsilon([Event(2.0, 0.5, 4)], DELTA)


def private(**changes: Any) -> dict[str, Any]:
    return copy.deepcopy(PRIVACY) | changes


def charges(ledger: Path) -> list[Event]:
    return [charge.event for charge in Ledger(ledger, create=False).charges()]


# --- in a federation --------------------------------------------------------------------------------


def test_each_site_charges_each_round(world: World, tmp_path: Path) -> None:
    bench = Bench(world, tmp_path, sites=2, **private(federation__sites=2))
    bench.run()
    ledgers = sorted((bench.home / "sites").glob("*/ledger.sqlite"))
    assert len(ledgers) == 2
    for ledger in ledgers:
        assert charges(ledger) == [Event(2.0, 0.5, 2)] * 2


def test_sites_without_a_ledger_that_was_there_take_no_part(world: World, tmp_path: Path) -> None:
    bench = Bench(world, tmp_path, sites=2, **private(federation__sites=2))
    for name in ("site-00", "site-01"):
        ledger = Ledger(bench.home / "sites" / name / "ledger.sqlite")
        ledger.path.unlink()
    with pytest.raises(FederationError, match="policy"):
        bench.run()


# --- at a deployed site -----------------------------------------------------------------------------


class Alone:
    """A deployed site that adapts without a server."""

    def __init__(self, world: World, folder: Path, **policy: Any) -> None:
        self.bench = Bench(world, folder, **private())
        key = world.home / "keys" / "owner.pub.pem"
        self.deployed = Deployment(folder / "site", key, policy={"privacy": policy})
        self.ledger = folder / "site" / "home" / "ledger.sqlite"

    def adapt(self, experiment: Experiment | None = None) -> dict[str, Any]:
        out = self.deployed.folder / "out"
        job = experiment or self.bench.experiment
        return adapt_alone(self.deployed.path, job, [self.bench.release_folder], out, lambda _done, _of: None)

    def cli(self, command: str, *words: str) -> Result:
        return CliRunner().invoke(app, [command, str(self.deployed.path), *words])


def test_the_budget_is_refused_before_training_and_outlives_the_run(world: World, tmp_path: Path) -> None:
    alone = Alone(world, tmp_path, epsilon=1.01 * ONE_RUN)
    assert "ti" not in alone.adapt()["losses"]
    with pytest.raises(BudgetError, match="the site allows"):
        alone.adapt()
    assert charges(alone.ledger) == [Event(2.0, 0.5, 2)] * 2


def test_another_image_size_is_the_same_data(world: World, tmp_path: Path) -> None:
    alone = Alone(world, tmp_path)
    site = open_deployed(alone.deployed.path)
    small, large = (
        site.load(experiment_with(data__size=size)).pair_digests() for size in (24, alone.bench.experiment.data.size)
    )
    assert small == large
    assert len(set(small)) == 6


def test_the_audit_shows_what_was_spent_and_what_is_not_covered(world: World, tmp_path: Path) -> None:
    alone = Alone(world, tmp_path, epsilon=100.0)
    for _ in range(2):
        alone.adapt()
    found = json.loads(alone.cli("audit", "--json").stdout)
    (pairs,) = found["data_sets"]
    assert [job["rdp"] for job in pairs["jobs"]] == pytest.approx([ONE_RUN] * 2)
    assert pairs["total"]["rdp"] == pytest.approx(rdp_epsilon([Event(2.0, 0.5, 8)], DELTA))
    assert pairs["total"]["claim"] == max(pairs["total"]["rdp"], pairs["total"]["pld"])
    text = alone.cli("audit").stdout
    for words in ("chain intact", "record-level", "add or remove one pair", "task-relevant images", "delta 1e-05"):
        assert words in text


def test_the_audit_fails_on_a_ledger_that_was_altered_or_overspent(world: World, tmp_path: Path) -> None:
    alone = Alone(world, tmp_path, epsilon=100.0)
    assert isinstance(alone.cli("audit").exception, PrivacyError)
    alone.adapt()
    alone.deployed.raw["policy"]["privacy"]["epsilon"] = 0.5 * ONE_RUN
    alone.deployed.write()
    assert isinstance(alone.cli("audit").exception, PolicyError)
    alone.ledger.with_suffix(".head").unlink()
    assert isinstance(alone.cli("audit").exception, PrivacyError)


def test_the_policy_explains_itself_and_a_run(world: World, tmp_path: Path) -> None:
    alone = Alone(world, tmp_path, epsilon=50.0, require_dp=True)
    text = alone.cli("policy", "--explain", "--config", str(alone.bench.config)).stdout
    assert "epsilon 50 at delta 1e-05" in text
    assert "without differential privacy is refused" in text
    assert "This run would be allowed as far as the policy goes, with sigma 2.000" in text
    assert f"{ONE_RUN:.3f} by RDP" in text
    assert not alone.ledger.exists()


def test_the_policy_says_why_a_run_would_be_refused(world: World, tmp_path: Path) -> None:
    alone = Alone(world, tmp_path, min_sigma=3.0)
    text = alone.cli("policy", "--config", str(alone.bench.config)).stdout
    assert "min_sigma: 3.0" in text
    assert "would be refused. policy.privacy.min_sigma: the run asks for sigma 2, at least 3" in text
