"""How well scores tell members from others: ROC, its area, and the rates at few false alarms.

Pure: arrays of scores in, numbers out. A higher score says "member". All intervals are 95 %, each for itself: over
many of them some miss. Of an (epsilon, delta)-DP release every test of membership obeys ``TPR <= e^epsilon FPR +
delta`` and ``1 - FPR <= e^epsilon (1 - TPR) + delta`` (Kairouz, Oh, Viswanath, ICML 2015).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import beta

from socket_core.data.types import Index

Reals = NDArray[np.float64]
LEVELS = (0.01, 0.1)
"""False positive rates at which the true positive rate is told."""

RESAMPLES = 2000
_TAIL = 0.025
_CELLS = 2**21
"""Numbers of one chunk of resamples: 16 MB."""


@dataclass(frozen=True)
class Rate:
    """``count`` of ``total``, with its Clopper-Pearson interval."""

    count: int
    total: int

    @property
    def value(self) -> float:
        """The rate."""
        return self.count / self.total

    @property
    def low(self) -> float:
        """Lower end."""
        return float(beta.ppf(_TAIL, self.count, self.total - self.count + 1)) if self.count else 0.0

    @property
    def high(self) -> float:
        """Upper end."""
        alone = self.count == self.total
        return 1.0 if alone else float(beta.ppf(1 - _TAIL, self.count + 1, self.total - self.count))


@dataclass(frozen=True)
class Operating:
    """A point of the ROC: the most members found while at most ``level`` of the others are taken for members.

    The threshold is chosen on these very scores, so the intervals are those of a threshold given beforehand.
    """

    level: float
    fpr: Rate
    tpr: Rate

    def breaks(self, epsilon: float, delta: float) -> bool:
        """Whether the point is above what DP allows by more than both rates' intervals explain."""
        return self.tpr.low > most_tpr(self.fpr.high, epsilon, delta)


@dataclass(frozen=True)
class Roc:
    """Receiver operating characteristic.

    Attributes:
        fpr: From 0 to 1, rising; one entry a distinct score, and the start.
        tpr: Likewise.
        auc: Area: P(a member's score is above another's) + P(they are equal) / 2.
        auc_low: Lower end of the bootstrap interval (percentiles; members and others are drawn anew). Where the
            two do not overlap at all it has no width, which says nothing of a larger sample.
        auc_high: Upper end.
        at: One point for each of :data:`LEVELS`.
        members: How many.
        others: How many.
    """

    fpr: Reals
    tpr: Reals
    auc: float
    auc_low: float
    auc_high: float
    at: tuple[Operating, ...]
    members: int
    others: int


def roc(members: ArrayLike, others: ArrayLike, *, seed: int = 0, resamples: int = RESAMPLES) -> Roc:
    """The ROC of a test that says "member" from some score on.

    Args:
        members: Scores of members, ``(N,)``.
        others: Scores of non-members, ``(M,)``.
        seed: Of the bootstrap.
        resamples: Of the bootstrap.

    Raises:
        ValueError: If one of the two is empty, not flat, or holds a score that is not finite.
    """
    inside, outside = _scores(members, "members"), _scores(others, "others")
    n, m = len(inside), len(outside)
    values = np.unique(np.concatenate([inside, outside]))  # sorted
    one, other = (_counts(scores, values) for scores in (inside, outside))
    found, alarms = (np.concatenate([[0], c[::-1].cumsum()]) for c in (one, other))
    rng = np.random.default_rng(seed)
    rows = max(1, _CELLS // len(values))
    sizes = [min(rows, resamples - done) for done in range(0, resamples, rows)]
    drawn = [_areas(rng.multinomial(n, one / n, size), rng.multinomial(m, other / m, size)) for size in sizes]
    low, high = np.quantile(np.concatenate(drawn), [_TAIL, 1 - _TAIL])
    at = tuple(_operating(level, found, alarms) for level in LEVELS)
    return Roc(alarms / m, found / n, float(_areas(one, other)), float(low), float(high), at, n, m)


def most_tpr(fpr: float, epsilon: float, delta: float) -> float:
    """The largest true positive rate that any test of an (epsilon, delta)-DP release has at this false positive rate.

    Both inequalities at the top of this module, for one record that is in or out with all others given.
    """
    if fpr >= 1 - delta:
        return 1.0
    return max(0.0, min(1.0, math.exp(epsilon) * fpr + delta, 1 - math.exp(-epsilon) * (1 - fpr - delta)))


def standardise(members: Reals, others: Reals) -> tuple[Reals, Reals]:
    """Both less their common mean, over their common standard deviation: scores of several sites on one scale.

    It needs no knowledge of who is a member, so an attacker can do it too.
    """
    both = np.concatenate([members, others])
    scale = float(both.std()) or 1.0
    return (members - both.mean()) / scale, (others - both.mean()) / scale


def _scores(scores: ArrayLike, name: str) -> Reals:
    out = np.asarray(scores, dtype=np.float64)
    if out.ndim != 1 or not len(out) or not np.isfinite(out).all():
        raise ValueError(f"{name}: expected finite scores of shape (N,), N >= 1, found shape {out.shape}")
    return out


def _counts(scores: Reals, values: Reals) -> Index:
    return np.bincount(np.searchsorted(values, scores), minlength=len(values)).astype(np.int64)


def _areas(members: Index, others: Index) -> Reals:
    """AUC from how often each score occurs ``(..., K)``, scores rising; in integers until the division: it is exact."""
    below = others.cumsum(-1) - others
    area: Reals = (members * (2 * below + others)).sum(-1) / (2.0 * members.sum(-1) * others.sum(-1))
    return area


def _operating(level: float, found: Index, alarms: Index) -> Operating:
    total, of = int(alarms[-1]), int(found[-1])
    # The last of them: among thresholds with as many false alarms it finds the most.
    best = int(np.flatnonzero(alarms <= level * total + 1e-9)[-1])
    return Operating(level, Rate(int(alarms[best]), total), Rate(int(found[best]), of))
