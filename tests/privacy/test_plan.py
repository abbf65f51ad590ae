"""The noise of a whole job, and a job that spends exactly what it was given."""

from __future__ import annotations

from typing import Any

import pytest

from socket_core.engine import adapt_alone
from socket_core.errors import PrivacyError
from socket_core.privacy.accounting import epsilon
from socket_core.privacy.ledger import BudgetError
from socket_core.privacy.plan import event_of, planned_steps, privacy_of, sigma_of
from socket_core.privacy.simulated import simulated_budget
from tests.core.builders import experiment, site_data, tiny_network


def job(**privacy: Any) -> Any:
    """Three rounds of two steps."""
    given = {"epsilon": 3.0, "sample_rate": 0.5, "expected_batch": 4} | privacy
    return experiment(method__trust="always", federation__rounds=3, federation__steps=2, privacy=given)


def test_the_noise_is_that_of_all_rounds_and_of_those_that_may_be_done_again() -> None:
    plain, spare = job(), job(spare_rounds=2)
    assert (planned_steps(plain), planned_steps(spare)) == (6, 10)
    assert sigma_of(spare) > sigma_of(plain) > sigma_of(experiment(method__trust="always", privacy=_raw(plain)))
    assert epsilon([event_of(plain, 6)], 1e-5).claim <= 3.0


def _raw(of: Any) -> dict[str, Any]:
    raw: dict[str, Any] = of.privacy.model_dump()
    return raw


def test_a_translator_that_stays_as_it_is_takes_no_round_away() -> None:
    raw = _raw(job())
    length = {"federation__rounds": 2, "federation__steps": 3}
    tgkt = experiment(
        method__name="tgkt", method__trust="always", method__translator__kind="replicate", privacy=raw, **length
    )
    assert planned_steps(tgkt) == 6


def test_without_the_section_there_is_no_plan() -> None:
    with pytest.raises(PrivacyError, match="no privacy section"):
        privacy_of(experiment())


def test_a_job_has_enough_for_all_its_rounds_and_for_none_more() -> None:
    with simulated_budget(site_data().ti, job()) as budget:
        assert budget is not None
        report = adapt_alone(tiny_network(), tiny_network(), site_data(), job(), "site-00", budget=budget)
        assert report.steps == 6
        assert [c.event.steps for c in budget.ledger.charges()] == [2, 2, 2]
        with pytest.raises(BudgetError, match="the run allows"):
            budget.charge(event_of(job(), 2))


def test_without_dp_there_is_nothing_to_count() -> None:
    with simulated_budget(site_data().ti, experiment()) as budget:
        assert budget is None
