"""A site's limits on federations as a whole: tightened only, kept over jobs, and said in sentences."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from client.explain import explain, explain_run
from client.policy import SIMULATION, check, check_site_level
from client.site import Site, open_deployed
from client.site_file import PrivacyPolicy, SitePolicy
from client.site_level import charge_round, may_leave
from socket_core.config import Experiment
from socket_core.errors import PolicyError, PrivacyError
from socket_core.privacy.accounting import Event, rdp_epsilon
from socket_core.privacy.ledger import BudgetError, Ledger
from tests.client.builders import Deployment
from tests.server.builders import World, experiment_with

DELTA = 1e-5
ONE_JOB = rdp_epsilon([Event(2.0, 1.0, 2)], DELTA)
"""Two rounds with sigma 2."""


def job(**asked: Any) -> Experiment:
    site_privacy = {"clip": 1.0, "sigma": 2.0, "delta": DELTA} | asked
    return experiment_with(federation__weighting="equal", federation__quorum=3, site_privacy=site_privacy)


def policy_with(**privacy: Any) -> SitePolicy:
    return SitePolicy(privacy=PrivacyPolicy(**privacy))


def site_with(world: World, folder: Path, **privacy: Any) -> Site:
    key = world.home / "keys" / "owner.pub.pem"
    return open_deployed(Deployment(folder / "site", key, policy={"privacy": privacy}).path)


@pytest.mark.parametrize(
    ("privacy", "asked", "key"),
    [
        ({"require_site_dp": True}, None, "require_site_dp"),
        ({"site_epsilon": 0.99 * ONE_JOB}, {}, "site_epsilon"),
        ({"delta": 1e-6}, {}, "delta"),
        # Of two rounds with sigma 2 over the root of three sites: nearly twice as much.
        ({"site_epsilon": 1.5 * ONE_JOB}, {"noise": "sites"}, "site_epsilon"),
        ({"site_epsilon": 1.1 * ONE_JOB}, {"spare_rounds": 1}, "site_epsilon"),
    ],
)
def test_each_key_refuses_and_is_named(privacy: dict[str, Any], asked: dict[str, Any] | None, key: str) -> None:
    with pytest.raises(PolicyError) as caught:
        check_site_level(policy_with(**privacy), experiment_with() if asked is None else job(**asked))
    assert caught.value.where == f"policy.privacy.{key}"


def test_what_is_within_the_limits_is_allowed() -> None:
    check_site_level(policy_with(require_site_dp=True, site_epsilon=1.001 * ONE_JOB), job())
    check_site_level(SitePolicy(), experiment_with())
    check_site_level(SIMULATION, job(noise="sites", sigma=0.6))


def test_alone_nothing_leaves_and_nothing_is_asked_for() -> None:
    check(policy_with(require_site_dp=True), experiment_with(), 2)


@given(cap=st.floats(0.1, 50), sigma=st.floats(1.0, 50), noise=st.sampled_from(["server", "sites"]))
def test_a_run_is_allowed_exactly_up_to_the_cap(cap: float, sigma: float, noise: str) -> None:
    seen = sigma if noise == "server" else sigma / 3**0.5
    experiment, policy = job(sigma=sigma, noise=noise), policy_with(site_epsilon=cap)
    if rdp_epsilon([Event(seen, 1.0, 2)], DELTA) > cap:
        with pytest.raises(PolicyError):
            check_site_level(policy, experiment)
    else:
        check_site_level(policy, experiment)


# --- the site's ledger ------------------------------------------------------------------------------


def test_the_cap_holds_over_jobs_and_the_plan_within_one(world: World, tmp_path: Path) -> None:
    site = site_with(world, tmp_path, site_epsilon=rdp_epsilon([Event(2.0, 1.0, 3)], DELTA))
    for _ in range(2):
        charge_round(site, job(), "first")
    with pytest.raises(BudgetError, match="the run allows"):
        charge_round(site, job(), "first")
    charge_round(site, job(), "second")
    with pytest.raises(BudgetError, match="the site allows") as caught:
        charge_round(site, job(), "second")
    assert caught.value.where == "policy.privacy.site_epsilon"
    found = Ledger(site.site_ledger_file, create=False).charges()
    assert [charge.job for charge in found] == ["first", "first", "second"]
    assert {charge.event for charge in found} == {Event(2.0, 1.0, 1)}
    assert not site.ledger_file.exists()  # TI pairs have their own


def test_a_ledger_that_was_there_and_is_gone_is_refused(world: World, tmp_path: Path) -> None:
    site = site_with(world, tmp_path)
    charge_round(site, job(), "job")
    site.site_ledger_file.unlink()
    with pytest.raises(PrivacyError, match="gone"):
        charge_round(site, job(), "job")


def test_without_the_section_nothing_is_charged_and_nothing_changed(world: World, tmp_path: Path) -> None:
    site, change = site_with(world, tmp_path), np.ones(3, np.float32)
    charge_round(site, experiment_with(), "job")
    assert not site.site_ledger_file.exists()
    assert may_leave(experiment_with(), change) is change


def test_a_change_that_is_not_finite_does_not_leave() -> None:
    with pytest.raises(PrivacyError, match="not finite"):
        may_leave(job(), np.array([1.0, np.nan], np.float32))


@pytest.mark.parametrize("noise", ["server", "sites"])
def test_what_leaves_is_clipped_and_noised_where_sites_make_the_noise(noise: str) -> None:
    change = np.full(10_000, 5.0, np.float32)
    found = may_leave(job(noise=noise), change)
    assert found.dtype == np.float32
    norm = float(np.linalg.norm(found))
    if noise == "server":
        assert norm == pytest.approx(1.0, rel=1e-5)
    else:  # a clip of 1 beside 10,000 values of deviation 2 over the root of three
        assert norm == pytest.approx(100 * 2 / 3**0.5, rel=0.05)


# --- in sentences -----------------------------------------------------------------------------------


def test_the_policy_explains_itself(world: World, tmp_path: Path) -> None:
    text = "\n".join(explain(site_with(world, tmp_path, require_site_dp=True, site_epsilon=5.0)))
    assert "A federation without protection of the site as a whole is refused." in text
    assert "may spend epsilon 5 (whole site: all its images" in text
    assert "add or remove one site; delta 1e-05" in text
    assert "Not covered for the whole site: who takes part" in text
    lax = "\n".join(explain(site_with(world, tmp_path / "lax")))
    assert "WITHOUT protection of the site as a whole (require_site_dp is false)" in lax


def test_a_run_is_explained_in_the_view_of_those_who_see_sums_and_of_the_owner(world: World, tmp_path: Path) -> None:
    site = site_with(world, tmp_path, site_epsilon=50.0)
    server, shares = ("\n".join(explain_run(site, job(noise=noise))) for noise in ("server", "sites"))
    for text in (server, shares):
        assert f"(RDP {ONE_JOB:.3f}" in text
        assert "add or remove one site" in text
        assert "never added" in text
    assert "the owner's word" in server
    assert f"(RDP {rdp_epsilon([Event(2.0 / 3**0.5, 1.0, 2)], DELTA):.3f}" in shares
    assert not site.site_ledger_file.exists()
    assert "WITHOUT protection of the site" in "\n".join(explain_run(site, experiment_with()))


def test_a_run_that_would_be_refused_is_explained(world: World, tmp_path: Path) -> None:
    (text,) = explain_run(site_with(world, tmp_path, require_site_dp=True), experiment_with())
    assert text.startswith("This run would be refused. policy.privacy.require_site_dp")
