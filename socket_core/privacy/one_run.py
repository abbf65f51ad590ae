"""A lower bound on epsilon from one run: Steinke, Nasr, Jagielski, NeurIPS 2023, arXiv:2305.08846, Theorem 5.2.

Each of m **canaries** is a record that a fair coin puts into the data or leaves out. Somebody who sees what was
released, and nothing else, guesses r of the coins and says nothing of the others; v guesses are right. Whatever
the guesses are made of: with an (epsilon, delta)-private mechanism, for adding or removing one record,

    P[V >= v] <= beta + 2 m delta alpha,     X ~ Binomial(r, e^epsilon / (1 + e^epsilon)),
    beta = P[X >= v],                        alpha = max over i in 1..v of P[v - i <= X < v] / i.

So many right guesses are evidence against a claimed epsilon, and the largest epsilon that they refute is a lower
bound on the true one. r has to be fixed before the guesses are compared with the coins. Few right guesses are no
evidence of privacy: whoever guessed may have guessed badly.

Below 2 m delta = 1 the right-hand side rises with epsilon and falls with v. By epsilon, through p, its derivative is
at least r P[Binomial(r - 1, p) = v - 1] (1 - 2 m delta / i). By v: alpha at v + 1 is at most the larger one of
P[X = v] and alpha at v, while beta falls by P[X = v]. One bisection therefore finds the only crossing. Above it the
bound says next to nothing, and is refused.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from socket_core.errors import PrivacyError

STEPS_OF_BISECTION = 40


def p_value(canaries: int, guesses: int, correct: int, epsilon: float, delta: float) -> float:
    """Largest probability of so many right guesses, or more, under (epsilon, delta)-DP.

    Args:
        canaries: m, all whose coins were thrown.
        guesses: r, at most m.
        correct: v, at most r.
        epsilon: The claim, finite, at least 0.
        delta: At most 1 / (2 m).

    Raises:
        PrivacyError: If a number is out of its range.
    """
    if not (0 <= correct <= guesses <= canaries and 0 <= epsilon < math.inf and 0 <= 2 * canaries * delta <= 1):
        raise PrivacyError(
            f"expected 0 <= correct <= guesses <= canaries, epsilon of at least 0 and delta of at most "
            f"1 / (2 canaries), found {correct}, {guesses}, {canaries}, {epsilon} and {delta}",
            where="audit",
            remedy="correct the numbers; with a smaller delta more canaries are possible",
        )
    mass = _binomial(guesses, epsilon)
    beta, below = float(mass[correct:].sum()), mass[:correct][::-1]
    alpha = float((below.cumsum() / np.arange(1, correct + 1)).max(initial=0.0))
    return min(1.0, beta + 2 * canaries * delta * alpha)


def _binomial(n: int, epsilon: float) -> NDArray[np.float64]:
    """P[X = k] for k in 0..n, X ~ Binomial(n, e^epsilon / (1 + e^epsilon))."""
    factorial = np.concatenate([[0.0], np.log(np.arange(1, n + 1)).cumsum()])
    k = np.arange(n + 1)
    odds = -math.log1p(math.exp(-epsilon))  # log of the success probability; of the other one: minus epsilon more
    mass: NDArray[np.float64] = np.exp(factorial[n] - factorial - factorial[::-1] + n * odds - (n - k) * epsilon)
    return mass


def epsilon_lower_bound(canaries: int, guesses: int, correct: int, delta: float, confidence: float = 0.95) -> float:
    """The largest epsilon that the guesses refute at this confidence, rounded down; 0 if they refute none.

    Raises:
        PrivacyError: As for :func:`p_value`, or if the confidence is not in (0, 1).
    """
    if not 0 < confidence < 1:
        raise PrivacyError(f"expected a confidence in (0, 1), found {confidence}", where="audit", remedy="use 0.95")

    def refuted(epsilon: float) -> bool:
        return p_value(canaries, guesses, correct, epsilon, delta) < 1 - confidence

    if not refuted(0.0):
        return 0.0
    low, high = 0.0, 1.0
    while refuted(high):  # ends: the p-value goes to 1
        low, high = high, 2 * high
    for _ in range(STEPS_OF_BISECTION):
        middle = (low + high) / 2
        low, high = (middle, high) if refuted(middle) else (low, middle)
    return low


def ceiling(canaries: int, guesses: int, delta: float, confidence: float = 0.95) -> float:
    """The bound if all guesses were right: no mechanism, however open, gets a larger one of so few guesses."""
    return epsilon_lower_bound(canaries, guesses, guesses, delta, confidence)


def correct_guesses(scores: ArrayLike, coins: ArrayLike, top: int, bottom: int = 0) -> int:
    """Guesses "in" for the ``top`` highest scores and "out" for the ``bottom`` lowest ones; how many are right.

    Args:
        scores: ``(m,)``, finite; equal ones count in the order of the canaries, which knows nothing of the coins.
        coins: ``(m,)``, true where a canary is in the data.
        top: Fixed before the scores are known, as ``bottom`` is.
        bottom: ``top + bottom`` is at most m.

    Raises:
        PrivacyError: If the numbers do not fit together, or a score is not finite.
    """
    values, inside = np.asarray(scores, dtype=np.float64), np.asarray(coins, dtype=bool)
    fits = values.ndim == 1 and values.shape == inside.shape and min(top, bottom) >= 0 and top + bottom <= len(values)
    if not (fits and np.isfinite(values).all()):
        raise PrivacyError(
            f"expected a finite score for each of {inside.size} coins, and at most as many guesses, found scores of "
            f"shape {values.shape} and {top} + {bottom} guesses",
            where="audit",
            remedy="fix the number of guesses below that of the canaries",
        )
    order = np.argsort(values, kind="stable")
    return int(inside[order[len(values) - top :]].sum() + (~inside[order[:bottom]]).sum())
