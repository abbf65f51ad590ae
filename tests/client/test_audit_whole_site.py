"""``socket-site audit`` of the ledger of the whole site: in its own unit, checked, capped, and in the evidence."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from client.cli import app
from client.evidence_format import open_evidence
from client.site import Site, open_deployed
from client.site_level import charge_round
from client.verification import verify
from socket_core.errors import PolicyError, PrivacyError
from socket_core.privacy.accounting import SITE, Event, epsilon
from socket_core.privacy.chain import Chain
from tests.client.builders import Deployment
from tests.server.builders import World, experiment_with

DELTA = 1e-5
SPENT = epsilon([Event(2.0, 1.0, 2)], DELTA, SITE)
JOB = experiment_with(
    federation__weighting="equal", federation__quorum=3, site_privacy={"clip": 1.0, "sigma": 2.0, "delta": DELTA}
)


@pytest.fixture
def path(world: World, tmp_path: Path) -> Path:
    """``site.yaml`` of a site that two rounds of a federation with ``site_privacy`` were charged to."""
    deployment = Deployment(tmp_path / "site", world.home / "keys" / "owner.pub.pem", policy={"privacy": {}})
    site = open_deployed(deployment.path)
    for _ in range(2):
        charge_round(site, JOB, "job")
    return deployment.path


def status(site: Site, name: str) -> str:
    return next(check.status for check in verify(site).checks if check.name == name)


def test_it_is_shown_in_its_own_unit_though_no_pair_was_ever_charged(path: Path) -> None:
    result = CliRunner().invoke(app, ["audit", str(path)])
    assert result.exit_code == 0
    assert "whole site: all its images, task-relevant and task-irrelevant; add or remove one site" in result.stdout
    assert f"{SPENT.claim:.3f} by {SPENT.by} of at most 8" in result.stdout
    assert "record-level" not in result.stdout
    assert "ok           site_ledger_chain: 2 charges" in result.stdout
    found = json.loads(CliRunner().invoke(app, ["audit", str(path), "--json"]).stdout)
    assert found["whole_site"]["data_sets"][0]["total"]["claim"] == SPENT.claim


def test_more_than_the_policy_now_allows_ends_with_7_and_fails_the_check(path: Path) -> None:
    path.write_text(path.read_text().replace("privacy: {}", f"privacy: {{site_epsilon: {0.9 * SPENT.claim}}}"))
    result = CliRunner().invoke(app, ["audit", str(path)])
    assert isinstance(result.exception, PolicyError)
    assert result.exception.where == "policy.privacy.site_epsilon"
    assert status(open_deployed(path), "within_policy") == "failed"


def test_a_ledger_that_is_gone_fails(path: Path) -> None:
    site = open_deployed(path)
    assert status(site, "site_ledger_chain") == "ok"
    site.site_ledger_file.unlink()
    assert Chain.begun(site.site_ledger_file)
    assert status(site, "site_ledger_chain") == "failed"
    with pytest.raises(PrivacyError, match="site_ledger_chain"):
        CliRunner().invoke(app, ["audit", str(path)], catch_exceptions=False)


def test_evidence_holds_it_and_later_evidence_may_not_hold_less(path: Path, tmp_path: Path) -> None:
    files = []
    for name in ("earlier", "later"):
        files.append(tmp_path / f"{name}.json")
        assert CliRunner().invoke(app, ["audit", str(path), "--export", str(files[-1])]).exit_code == 0
        charge_round(open_deployed(path), JOB, f"job-{name}")
    earlier, later = (open_evidence(file, open_deployed(path).store.home / "site.pub.pem") for file in files)
    assert earlier.whole_site is not None
    assert (earlier.whole_site.charges, earlier.whole_site.data_sets[0].total.claim) == (2, SPENT.claim)
    assert later.follows(earlier) == []
    assert earlier.follows(later) == ["the ledger of the whole site has 2 charges, the earlier evidence had 3"]
    assert str(tmp_path) not in files[0].read_text()
