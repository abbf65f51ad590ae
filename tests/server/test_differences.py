"""Differences: paired by seed, with an interval, and whether it is noise."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import ttest_rel

from server.differences import Difference, between, of_modes, of_steps, signed
from server.results import Mode, Row
from tests.server.rows import row


def by_seed(method: str, *accuracies: float, label: str = "", mode: Mode = "federated") -> list[Row]:
    return [row(method, mode, seed=i, accuracy=a, label=label) for i, a in enumerate(accuracies)]


def test_differences_are_paired_by_seed() -> None:
    rows = [*by_seed("shot", 0.1, 0.5, 0.3), *by_seed("socket", 0.2, 0.7, 0.6)]
    found = between(rows, ("socket", "federated"), ("shot", "federated"))
    assert found is not None
    assert found.mean == pytest.approx(20)  # of 10, 20 and 30 points
    assert found.spread == pytest.approx(10)
    assert found.seeds == 3
    back = between(rows[::-1], ("shot", "federated"), ("socket", "federated"))
    assert back is not None
    assert back.mean == pytest.approx(-found.mean)
    assert back.spread == pytest.approx(found.spread)


def test_a_seed_that_one_of_them_lacks_does_not_count() -> None:
    rows = [*by_seed("shot", 0.1, 0.5), *by_seed("socket", 0.4)]
    found = between(rows, ("socket", "federated"), ("shot", "federated"))
    assert found is not None
    assert found.mean == pytest.approx(30)
    assert (found.spread, found.seeds, found.interval) == (None, 1, None)
    assert between(rows, ("socket", "centralised"), ("shot", "centralised")) is None
    assert between(rows, ("socket", "federated"), ("nothing", "federated")) is None


def test_labels_are_told_apart() -> None:
    rows = [*by_seed("socket", 0.6), *by_seed("socket", 0.5, label="no-ti")]
    found = between(rows, ("socket", "federated"), ("no-ti", "federated"))
    assert found is not None
    assert found.mean == pytest.approx(10)


@given(
    st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=2, max_size=6).filter(
        lambda pairs: len({round(a - b, 6) for a, b in pairs}) > 1
    )
)
def test_the_interval_is_that_of_the_paired_t_test(pairs: list[tuple[float, float]]) -> None:
    above, below = zip(*pairs, strict=True)
    rows = [*by_seed("a", *above), *by_seed("b", *below)]
    found = between(rows, ("a", "federated"), ("b", "federated"))
    assert found is not None
    assert found.interval is not None
    known = ttest_rel([100 * v for v in above], [100 * v for v in below]).confidence_interval(0.95)
    assert found.interval == pytest.approx((known.low, known.high), abs=1e-6, rel=1e-6)


def test_noise_is_an_interval_around_nothing_or_a_single_seed() -> None:
    assert Difference(10.0, 10.0, 3).within_noise  # 10 +- 24.8
    assert not Difference(10.0, 1.0, 3).within_noise  # 10 +- 2.5
    assert not Difference(-10.0, 1.0, 3).within_noise
    assert Difference(50.0, None, 1).within_noise
    assert Difference(0.0, 0.0, 3).within_noise


def test_the_words_hold_interval_and_seeds() -> None:
    assert Difference(10.0, 1.0, 3).text() == "+10.0 points (95 % interval +7.5 to +12.5, 3 seeds)"
    assert Difference(-10.0, None, 1).text() == "-10.0 points (one seed: its noise is not known)"
    assert (signed(-0.04), signed(0.0), signed(-0.06), signed(5.0)) == ("+0.0", "+0.0", "-0.1", "+5.0")


def test_modes_and_methods_are_set_against_each_other() -> None:
    rows = [
        row("unadapted", "unadapted", accuracy=0.1),
        *by_seed("shot", 0.3),
        *by_seed("shot", 0.5, mode="centralised"),
        *by_seed("shot", 0.4, label="variant"),
        row("oracle", "centralised", accuracy=1.0, oracle=True),
    ]
    (one,) = of_modes(rows, "federated", "centralised")
    assert (one.above, one.below, round(one.found.mean)) == (("shot", "federated"), ("shot", "centralised"), -20)
    assert of_modes(rows, "federated", "local") == []
    assert [(c.above, round(c.found.mean)) for c in of_steps(rows)] == [
        (("shot", "federated"), 20),
        (("shot", "centralised"), 40),
    ]
