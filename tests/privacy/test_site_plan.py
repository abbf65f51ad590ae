"""What whole-site protection costs: one accountant over all rounds, against an independent formula, and the docs."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import pytest
from scipy.optimize import brentq
from scipy.stats import norm

from socket_core.config import Experiment, parse_experiment
from socket_core.errors import PrivacyError
from socket_core.exchange import length, travelling_specs
from socket_core.models import build_network
from socket_core.privacy.accounting import SITE, Event, calibrate, epsilon, pld_epsilon, rdp_epsilon
from socket_core.privacy.site_plan import (
    own_event,
    planned_epsilon,
    planned_rounds,
    released_event,
    site_limits,
    site_privacy_of,
    site_sigma,
)

DELTA = 1e-5
PAGE = Path(__file__).resolve().parents[2] / "docs" / "privacy.md"


def job(method: dict[str, Any] | None = None, federation: dict[str, Any] | None = None, **asked: Any) -> Experiment:
    """Five rounds at four sites; ``asked`` are keys of ``site_privacy``."""
    raw = {
        "method": method or {},
        "federation": {"sites": 4, "quorum": 4, "rounds": 5, "weighting": "equal"} | (federation or {}),
        "site_privacy": {"clip": 1.0} | (asked or {"epsilon": 3.0}),
    }
    return parse_experiment(raw, where="test")


def analytic(sigma: float, rounds: int, delta: float) -> float:
    """Epsilon of the Gaussian mechanism, exactly (Balle and Wang, ICML 2018, theorem 8).

    Rounds compose to one with ``sigma / sqrt(rounds)``.
    """
    mu = math.sqrt(rounds) / sigma

    def excess(eps: float) -> float:
        tail = math.exp(eps + float(norm.logcdf(-mu / 2 - eps / mu)))
        return float(norm.cdf(mu / 2 - eps / mu)) - tail - delta

    return float(brentq(excess, 0, 1000, xtol=1e-12))


@pytest.mark.parametrize(("sigma", "rounds"), [(0.5, 1), (1.426, 5), (9.046, 5), (20.0, 3)])
def test_the_accountants_agree_with_the_exact_formula(sigma: float, rounds: int) -> None:
    exact, events = analytic(sigma, rounds, DELTA), [Event(sigma, 1.0, 1)] * rounds
    assert pld_epsilon(events, DELTA) == pytest.approx(exact, abs=1e-5)
    assert exact <= rdp_epsilon(events, DELTA) <= 1.12 * exact


def test_the_epsilon_of_rounds_is_that_of_one_accountant_over_all_of_them() -> None:
    from dp_accounting import GaussianDpEvent
    from dp_accounting.pld import PLDAccountant

    accountant = PLDAccountant()
    for _ in range(7):
        accountant.compose(GaussianDpEvent(2.5))
    ledger = [Event(2.5, 1.0, 1)] * 7
    assert pld_epsilon(ledger, DELTA) == pytest.approx(accountant.get_epsilon(DELTA), abs=1e-6)
    assert rdp_epsilon(ledger, DELTA) == rdp_epsilon([Event(2.5, 1.0, 7)], DELTA)
    assert 7 * rdp_epsilon(ledger[:1], DELTA) > 2 * rdp_epsilon(ledger, DELTA)


def test_the_noise_is_that_of_all_rounds_and_of_those_that_may_be_done_again() -> None:
    plain, spare = job(epsilon=3.0), job(epsilon=3.0, spare_rounds=2)
    assert (planned_rounds(plain), planned_rounds(spare)) == (5, 7)
    assert site_sigma(spare) > site_sigma(plain) == calibrate(3.0, DELTA, 1.0, 5)
    assert epsilon([released_event(plain, 5)], DELTA, SITE).claim <= 3.0
    assert site_sigma(job(sigma=2.5)) == 2.5


def test_rounds_of_a_shared_translator_count_and_those_of_an_own_one_do_not() -> None:
    shared, own = ({"name": "tgkt", "translator": {"rounds": 2, "exchange": how}} for how in ("shared", "local"))
    assert planned_rounds(job(shared, sigma=1.0)) == 5
    assert planned_rounds(job(own, sigma=1.0)) == 3
    assert planned_rounds(job({"name": "adabn"}, sigma=1.0)) == 1


def test_a_site_counts_its_own_share_and_with_noise_at_the_server_the_owners_word() -> None:
    assert own_event(job(sigma=2.0)) == released_event(job(sigma=2.0)) == Event(2.0, 1.0, 1)
    assert own_event(job(sigma=2.0, noise="sites")) == Event(1.0, 1.0, 1)
    assert released_event(job(sigma=2.0, noise="sites")) == Event(2.0, 1.0, 1)


def test_a_share_too_small_to_account_for_is_refused() -> None:
    with pytest.raises(PrivacyError, match="share of sigma 0.4 is 0.200") as caught:
        own_event(job(sigma=0.4, noise="sites"))
    assert caught.value.where == "site_privacy.sigma"


def test_a_job_may_spend_its_planned_rounds_and_nothing_more() -> None:
    experiment = job(sigma=2.0, spare_rounds=1, delta=1e-6)
    event = own_event(experiment)
    limits = site_limits(experiment, event, (8.0, DELTA))
    assert (limits.epsilon, limits.delta, limits.job_delta, limits.unit) == (8.0, DELTA, 1e-6, SITE)
    assert limits.job_epsilon == rdp_epsilon([event] * 6, 1e-6) == planned_epsilon(experiment, event, 1e-6)


def test_an_epsilon_that_no_noise_reaches_names_its_section() -> None:
    with pytest.raises(PrivacyError, match="cannot be reached") as caught:
        site_sigma(job(epsilon=1e-4))
    assert caught.value.where == "site_privacy"


def test_what_went_round_the_validation_is_refused() -> None:
    federation = job().federation.model_copy(update={"weighting": "examples"})
    with pytest.raises(PrivacyError, match=r"federation\.weighting"):
        site_privacy_of(job().model_copy(update={"federation": federation}))
    with pytest.raises(PrivacyError, match="no site_privacy"):
        site_privacy_of(Experiment())


def test_epsilon_of_a_site_says_so() -> None:
    text = str(epsilon([Event(2.0, 1.0, 5)], DELTA, SITE))
    assert "whole site: all its images, task-relevant and task-irrelevant; add or remove one site" in text
    assert "pair" not in text


# --- the page ---------------------------------------------------------------------------------------


def _rows(head: str) -> list[list[str]]:
    """The cells of the table of the page whose first heading is ``head``."""
    lines = PAGE.read_text(encoding="utf-8").split(f"| {head} |")[1].splitlines()[2:]
    body = lines[: next(i for i, line in enumerate(lines) if not line.startswith("|"))]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in body]


def test_the_page_says_what_the_accountants_say() -> None:
    network = build_network("tiny", 64, 8)
    values = length(travelling_specs(network, "local"))
    assert f"{values:,}" in PAGE.read_text(encoding="utf-8")
    rows = _rows("epsilon, delta 1e-5")
    assert [row[0] for row in rows] == ["1", "3", "8"]
    for target, sigma, each, ratio, needed, towards in rows:
        found = calibrate(float(target), DELTA, 1.0, 5)
        assert sigma == f"{found:.2f}"
        assert each == f"{found / 4:.2f}"
        assert ratio == f"{found * math.sqrt(values) / 4:.0f}"
        assert needed == f"{math.ceil(found * math.sqrt(values) / 100) * 100:,}"
        assert towards == f"{epsilon([Event(found / 2, 1.0, 5)], DELTA, SITE).claim:.1f}"


def test_the_example_of_the_page_is_an_experiment() -> None:
    import yaml

    blocks = re.findall(r"(?:^    .*\n)+", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    (block,) = [b for b in blocks if "site_privacy:" in b]
    raw = yaml.safe_load(block)
    assert parse_experiment(raw, where="docs").site_privacy is not None
