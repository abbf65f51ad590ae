"""Spreads, ratios within a round, lines and powers: expected numbers, and a clock that is not the machine's."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.harness import Spread, exponent, interleaved, line, ratio, seconds, share, spread


def test_a_spread_is_median_and_interpolated_quartiles() -> None:
    assert spread([4.0, 1.0, 3.0, 2.0, 5.0]) == Spread(3.0, 2.0, 4.0, 5)
    assert spread([7.0]) == Spread(7.0, 7.0, 7.0, 1)
    with pytest.raises(ValueError, match="at least one"):
        spread([])


def test_each_round_takes_every_arm_in_an_order_of_its_own_and_the_first_round_is_not_counted() -> None:
    calls: list[str] = []
    now = [0.0]

    def arm(name: str, cost: float) -> None:
        calls.append(name)
        now[0] += cost

    arms = {name: lambda n=name, c=cost: arm(n, c) for name, cost in (("a", 1.0), ("b", 2.0), ("c", 4.0))}
    told: list[str] = []
    found = interleaved(arms, 6, clock=lambda: now[0], tell=told.append)
    assert found == [{"a": 1.0, "b": 2.0, "c": 4.0}] * 6
    orders = [tuple(calls[i : i + 3]) for i in range(0, 21, 3)]
    assert len(calls) == 21
    assert all(sorted(order) == ["a", "b", "c"] for order in orders)
    assert len(set(orders)) > 1
    assert told == ["warmed up", *(f"round {i} of 6" for i in range(1, 7))]


def test_ratios_and_shares_are_of_one_round_so_that_a_slow_round_changes_nothing() -> None:
    rounds = [{"ours": 2.0, "bound": 1.0}, {"ours": 200.0, "bound": 100.0}, {"ours": 4.0, "bound": 2.0}]
    assert ratio(rounds, "ours", "bound") == Spread(2.0, 2.0, 2.0, 3)
    assert share(rounds, "bound", ["ours"]).median == pytest.approx(1 / 3)
    assert seconds(rounds, "ours").median == 4.0


def test_lines_and_powers_through_points_that_lie_on_them() -> None:
    fit = line([1, 2, 5], [5.0, 7.0, 13.0])
    assert (fit.slope, fit.intercept, fit.r2) == pytest.approx((2.0, 3.0, 1.0))
    assert line([1, 2, 3], [4.0, 4.0, 4.0]).r2 == 1.0
    assert line([0, 1, 2, 3], [0.0, 1.0, 0.0, 1.0]).r2 == pytest.approx(0.2)
    assert exponent([2, 4, 8], [3.0 * 4, 3.0 * 16, 3.0 * 64]) == pytest.approx(2.0)
    assert exponent([2, 200], [5.0, 5.0]) == pytest.approx(0.0)
    with pytest.raises(ValueError, match="two points"):
        line([3, 3], [1.0, 2.0])


@given(st.lists(st.floats(1e-3, 1e3), min_size=1, max_size=20), st.floats(1e-3, 1e3))
def test_a_ratio_does_not_know_the_unit_of_time(values: list[float], unit: float) -> None:
    rounds = [{"a": v, "b": 3.0 * v} for v in values]
    scaled = [{name: unit * v for name, v in one.items()} for one in rounds]
    for rows in (rounds, scaled):
        found = ratio(rows, "b", "a")
        assert math.isclose(found.median, 3.0, rel_tol=1e-9)
        assert found.low <= found.median <= found.high
