"""ROC, area, intervals and DP's bound, on numbers that can be worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import mannwhitneyu

from socket_core.privacy.membership import Operating, Rate, most_tpr, roc, standardise

Scores = st.lists(st.integers(-3, 3), min_size=1, max_size=12)  # many ties


def test_a_roc_by_hand() -> None:
    found = roc([3.0, 2.0, 2.0, 0.0], [2.0, 1.0], resamples=10)
    assert found.fpr.tolist() == [0, 0, 0.5, 1, 1]
    assert found.tpr.tolist() == [0, 0.25, 0.75, 0.75, 1]
    # Pairs above: 3 > both, each 2 > 1 and ties with 2; 0 is above none.
    assert found.auc == (2 + 2 * 1.5) / 8
    assert (found.members, found.others) == (4, 2)
    assert [(p.level, p.fpr.count, p.tpr.count) for p in found.at] == [(0.01, 0, 1), (0.1, 0, 1)]


def test_the_rates_are_those_at_the_levels() -> None:
    others = np.arange(100.0)
    found = roc([99.5, 98.5, 95.0, 89.5, 0.5], others, resamples=10)
    one, ten = found.at
    assert (one.fpr.count, one.tpr.count) == (1, 2)
    assert (ten.fpr.count, ten.tpr.count) == (10, 4)


@given(Scores, Scores)
def test_the_area_is_that_of_the_rank_test_and_of_the_curve(members: list[int], others: list[int]) -> None:
    found = roc(members, others, resamples=1)
    u = mannwhitneyu(members, others, method="asymptotic").statistic if len({*members, *others}) > 1 else None
    expected = u / (len(members) * len(others)) if u is not None else 0.5
    assert found.auc == pytest.approx(expected, abs=1e-12)
    assert np.trapezoid(found.tpr, found.fpr) == pytest.approx(found.auc, abs=1e-12)


@given(Scores, Scores)
def test_swapping_the_two_turns_the_area_round(members: list[int], others: list[int]) -> None:
    assert roc(members, others, resamples=1).auc == pytest.approx(1 - roc(others, members, resamples=1).auc, abs=1e-12)


@given(Scores, Scores)
def test_only_the_order_of_scores_counts(members: list[int], others: list[int]) -> None:
    plain = roc(members, others, resamples=20)
    bent = roc(np.exp(np.array(members, float)), np.exp(np.array(others, float)), resamples=20)
    assert plain.tpr.tolist() == bent.tpr.tolist()
    assert plain.fpr.tolist() == bent.fpr.tolist()
    assert (plain.auc, plain.auc_low, plain.auc_high) == (bent.auc, bent.auc_low, bent.auc_high)


def test_the_bootstrap_is_seeded_and_about_as_wide_as_theory_says() -> None:
    rng = np.random.default_rng(0)
    members, others = rng.normal(size=200), rng.normal(size=200)
    found = roc(members, others)
    again = roc(members, others)
    assert (found.auc_low, found.auc_high) == (again.auc_low, again.auc_high)
    assert roc(members, others, seed=1).auc_low != found.auc_low
    # Of unrelated scores the variance of the area is (n + m + 1) / (12 n m).
    width = 2 * 1.96 * math.sqrt(401 / (12 * 200 * 200))
    assert found.auc_high - found.auc_low == pytest.approx(width, rel=0.1)
    assert found.auc_low < found.auc < found.auc_high


def test_the_interval_of_unrelated_scores_holds_a_half_as_often_as_it_should() -> None:
    rng = np.random.default_rng(1)
    found = [roc(rng.normal(size=60), rng.normal(size=60), resamples=200) for _ in range(100)]
    assert 88 <= sum(r.auc_low <= 0.5 <= r.auc_high for r in found) <= 99


@pytest.mark.parametrize(
    ("count", "total", "low", "high"),
    [(0, 10, 0.0, 1 - 0.025**0.1), (10, 10, 0.025**0.1, 1.0), (5, 10, 0.18708603, 0.81291397)],
)
def test_clopper_pearson(count: int, total: int, low: float, high: float) -> None:
    rate = Rate(count, total)
    assert (rate.low, rate.high) == pytest.approx((low, high), abs=1e-8)
    assert rate.low <= rate.value <= rate.high


def test_the_bound_of_dp() -> None:
    assert most_tpr(0.2, 0.0, 0.0) == pytest.approx(0.2)
    assert most_tpr(0.01, math.log(20), 0.0) == pytest.approx(0.2)
    assert most_tpr(0.0, 3.0, 1e-5) == pytest.approx(1e-5)
    assert most_tpr(0.5, math.log(2), 0.0) == pytest.approx(0.75)  # by the other inequality
    assert most_tpr(1.0, 1.0, 1e-5) == 1.0


@given(st.floats(0, 1), st.floats(0, 10), st.floats(0, 0.1))
def test_both_inequalities_hold_at_the_bound(fpr: float, epsilon: float, delta: float) -> None:
    tpr = most_tpr(fpr, epsilon, delta)
    assert fpr - 1e-12 <= tpr <= 1
    assert tpr <= math.exp(epsilon) * fpr + delta + 1e-12
    assert 1 - fpr <= math.exp(epsilon) * (1 - tpr) + delta + 1e-9


def test_a_point_breaks_the_bound_only_beyond_both_intervals() -> None:
    def point(alarms: int, found: int) -> Operating:
        return Operating(0.01, Rate(alarms, 1000), Rate(found, 1000))

    assert point(10, 300).breaks(1.0, 1e-5)
    assert not point(10, 300).breaks(4.0, 1e-5)
    assert not point(0, 3).breaks(0.0, 0.0), "three in a thousand may be chance"


def test_standardised_scores_keep_their_order_and_lose_their_scale() -> None:
    one = standardise(np.array([1.0, 3.0]), np.array([2.0, 6.0]))
    other = standardise(np.array([11.0, 31.0]), np.array([21.0, 61.0]))
    for a, b in zip(one, other, strict=True):
        assert a == pytest.approx(b)
    assert np.concatenate(one).mean() == pytest.approx(0)
    assert np.concatenate(one).std() == pytest.approx(1)
    assert standardise(np.ones(2), np.ones(1))[0].tolist() == [0, 0]


@pytest.mark.parametrize(("members", "others"), [([], [1.0]), ([1.0], []), ([np.nan], [1.0]), ([[1.0]], [1.0])])
def test_what_is_no_score_is_refused(members: list[float], others: list[float]) -> None:
    with pytest.raises(ValueError, match="expected finite scores"):
        roc(members, others)
