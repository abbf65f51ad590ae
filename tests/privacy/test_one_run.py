"""The bound from one run: against enumeration, against mechanisms whose distribution is known, and its laws."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from socket_core.errors import PrivacyError
from socket_core.privacy.one_run import ceiling, correct_guesses, epsilon_lower_bound, p_value

DELTA = 1e-5


def exact(canaries: int, guesses: int, correct: int, odds: Fraction, delta: Fraction) -> Fraction:
    """Theorem 5.2 word for word, in fractions; ``odds`` is e^epsilon."""
    p = odds / (1 + odds)
    mass = [math.comb(guesses, k) * p**k * (1 - p) ** (guesses - k) for k in range(guesses + 1)]
    alpha = max((sum(mass[correct - i : correct], Fraction(0)) / i for i in range(1, correct + 1)), default=Fraction(0))
    return min(Fraction(1), sum(mass[correct:], Fraction(0)) + 2 * canaries * delta * alpha)


@pytest.mark.parametrize("odds", [Fraction(1), Fraction(3), Fraction(15, 2)])
@pytest.mark.parametrize("guesses", [0, 1, 2, 7, 12])
def test_the_p_value_is_that_of_the_theorem(odds: Fraction, guesses: int) -> None:
    delta = Fraction(1, 100)
    for correct in range(guesses + 1):
        found = p_value(12, guesses, correct, math.log(odds), float(delta))
        assert found == pytest.approx(float(exact(12, guesses, correct, odds, delta)), abs=1e-12)


@given(st.integers(1, 300), st.data())
def test_without_delta_it_is_the_tail_of_a_binomial(guesses: int, data: st.DataObject) -> None:
    correct, epsilon = data.draw(st.integers(0, guesses)), data.draw(st.floats(0, 12))
    p = 1 / (1 + math.exp(-epsilon))
    tail = sum(math.comb(guesses, k) * p**k * (1 - p) ** (guesses - k) for k in range(correct, guesses + 1))
    assert p_value(guesses, guesses, correct, epsilon, 0.0) == pytest.approx(tail, rel=1e-8, abs=1e-12)


@pytest.mark.parametrize("epsilon", [0.0, 0.5, 2.0])
@pytest.mark.parametrize("delta", [1e-3, 0.02])
@pytest.mark.parametrize("together", [True, False])
def test_no_mechanism_is_right_more_often_than_the_theorem_allows(epsilon: float, delta: float, together: bool) -> None:
    """Randomised response that with probability delta names the coins: all of them together, or each by itself."""
    m, p = 20, 1 / (1 + math.exp(-epsilon))
    named = 0.0 if together else delta
    q = named + (1 - named) * p
    for correct in range(m + 1):
        tail = sum(math.comb(m, k) * q**k * (1 - q) ** (m - k) for k in range(correct, m + 1))
        truth = delta + (1 - delta) * tail if together else tail
        assert truth <= p_value(m, m, correct, epsilon, delta) + 1e-12


sizes = st.integers(1, 120).flatmap(lambda m: st.tuples(st.just(m), st.integers(1, m)))
deltas = st.sampled_from([0.0, 1e-5, 1e-3])


@given(sizes, deltas, st.floats(0, 8), st.floats(0, 8))
def test_more_right_guesses_are_more_evidence_and_larger_claims_harder_to_refute(
    size: tuple[int, int], delta: float, one: float, other: float
) -> None:
    m, r = size
    by_correct = [p_value(m, r, v, one, delta) for v in range(r + 1)]
    assert np.all(np.diff(by_correct) <= 1e-12)
    low, high = sorted([one, other])
    assert p_value(m, r, r // 2, low, delta) <= p_value(m, r, r // 2, high, delta) + 1e-12


@given(sizes, deltas, st.data())
def test_the_bound_rises_with_right_guesses_up_to_the_ceiling(
    size: tuple[int, int], delta: float, data: st.DataObject
) -> None:
    m, r = size
    fewer, more = sorted(data.draw(st.tuples(st.integers(0, r), st.integers(0, r))))
    bounds = [epsilon_lower_bound(m, r, v, delta) for v in (fewer, more)]
    assert 0 <= bounds[0] <= bounds[1] <= ceiling(m, r, delta)
    if bounds[1] > 0:
        assert p_value(m, r, more, bounds[1], delta) < 0.05 <= p_value(m, r, more, bounds[1] + 1e-6, delta)


def test_known_ceilings() -> None:
    """Without delta: all of r right refute p once p^r is below 0.05."""
    assert ceiling(100, 100, 0.0) == pytest.approx(math.log(1 / (0.05 ** (-1 / 100) - 1)), abs=1e-9)
    assert ceiling(200, 200, DELTA) == pytest.approx(4.188, abs=1e-3)
    assert ceiling(400, 400, DELTA) == pytest.approx(4.880, abs=1e-3)


def test_coins_that_are_guessed_as_often_as_chance_has_it_refute_nothing() -> None:
    assert all(epsilon_lower_bound(400, r, r // 2, DELTA) == 0.0 for r in (1, 20, 100, 400))


@pytest.mark.parametrize(("delta", "nominal"), [(0.0, 0.05), (DELTA, 0.05)])
def test_randomised_response_is_accused_no_more_often_than_stated(delta: float, nominal: float) -> None:
    """Epsilon is exactly 2; of 2000 accusations at 5 % each, more than 130 have probability 0.001."""
    rng = np.random.default_rng(3)
    right = rng.binomial(200, 1 / (1 + math.exp(-2.0)), size=2000)
    bounds = {int(v): epsilon_lower_bound(200, 200, int(v), delta) for v in np.unique(right)}
    accused = sum(bounds[int(v)] > 2.0 for v in right)
    assert 20 < accused <= 130 * nominal / 0.05


def test_guesses_are_made_from_both_ends() -> None:
    scores, coins = [0.1, 5.0, -3.0, 2.0, 0.0], [True, True, False, False, True]
    assert correct_guesses(scores, coins, top=1) == 1
    assert correct_guesses(scores, coins, top=2) == 1
    assert correct_guesses(scores, coins, top=2, bottom=2) == 2
    assert correct_guesses(scores, coins, top=0, bottom=1) == 1
    assert correct_guesses(scores, coins, top=0) == 0


@pytest.mark.parametrize(
    ("scores", "coins", "top"), [([1.0, float("nan")], [True, False], 1), ([1.0], [True, False], 1), ([1.0], [True], 2)]
)
def test_scores_that_fit_no_coins_or_are_no_numbers_are_refused(
    scores: list[float], coins: list[bool], top: int
) -> None:
    with pytest.raises(PrivacyError, match="finite score"):
        correct_guesses(scores, coins, top)


@pytest.mark.parametrize(
    "wrong",
    [(10, 11, 1, 1.0, 0.0), (10, 5, 6, 1.0, 0.0), (10, 5, -1, 1.0, 0.0), (10, 5, 5, -1.0, 0.0), (10, 5, 5, 1.0, 0.06)],
)
def test_numbers_out_of_range_are_refused(wrong: tuple[int, int, int, float, float]) -> None:
    with pytest.raises(PrivacyError, match="expected 0 <= correct"):
        p_value(*wrong)


def test_a_confidence_of_one_is_refused() -> None:
    with pytest.raises(PrivacyError, match="confidence"):
        epsilon_lower_bound(10, 10, 10, 0.0, confidence=1.0)
