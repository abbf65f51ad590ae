"""Arms taken in turn, medians with quartiles, ratios within a round, slopes of curves: pure but for the clock.

Machines are shared, so two figures of two runs say little about each other. All arms of a comparison are taken in
each round, in an order that is drawn anew, and an arm is divided by the bound *of that round*; the median of these
ratios is the figure. The clock is the process's CPU time, which other people's work does not count in.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

Arm = Callable[[], object]
Round = dict[str, float]
"""Seconds of each arm."""

Tell = Callable[[str], None]
"""Takes a line about progress."""


@dataclass(frozen=True)
class Run:
    """How a part is asked to measure.

    Attributes:
        tell: Told of progress.
        quick: Small sizes and few rounds.
        most: Rounds at most, in place of the part's own number; None for that.
    """

    tell: Tell
    quick: bool = False
    most: int | None = None

    def rounds(self, own: int, quick: int) -> int:
        """How many rounds to take, of a part's own number and that for quick runs."""
        wanted = quick if self.quick else own
        return wanted if self.most is None else min(wanted, self.most)

    def telling_of(self, what: object) -> Tell:
        """Lines that begin with what is measured."""
        return lambda text: self.tell(f"{what}: {text}")


@dataclass(frozen=True)
class Spread:
    """A median, its quartiles, and of how many values."""

    median: float
    low: float
    high: float
    count: int


def spread(values: Sequence[float]) -> Spread:
    """Median and quartiles, interpolated; a single value is all three.

    Raises:
        ValueError: If there is no value.
    """
    if not values:
        raise ValueError("a spread needs at least one value")
    low, middle, high = (float(q) for q in np.quantile(np.asarray(values, dtype=np.float64), (0.25, 0.5, 0.75)))
    return Spread(middle, low, high, len(values))


def interleaved(
    arms: Mapping[str, Arm],
    rounds: int,
    *,
    seed: int = 0,
    clock: Callable[[], float] = time.process_time,
    tell: Tell | None = None,
) -> list[Round]:
    """Seconds of each arm in each round, after one round that warms up and is not in the result.

    Args:
        arms: What to measure; none may change what another one finds.
        rounds: How often.
        seed: Of the order within rounds.
        clock: Reads seconds.
        tell: Told of each round that is over.
    """
    order, shuffle, out = list(arms), random.Random(seed), []
    for turn in range(rounds + 1):
        shuffle.shuffle(order)
        taken = {}
        for name in order:
            start = clock()
            arms[name]()
            taken[name] = clock() - start
        if turn:
            out.append(taken)
        if tell is not None:
            tell(f"round {turn} of {rounds}" if turn else "warmed up")
    return out


def seconds(rounds: Sequence[Round], arm: str) -> Spread:
    """Of one arm."""
    return spread([taken[arm] for taken in rounds])


def ratio(rounds: Sequence[Round], arm: str, over: str) -> Spread:
    """Of one arm over another, round by round."""
    return spread([taken[arm] / taken[over] for taken in rounds])


def share(rounds: Sequence[Round], part: str, rest: Sequence[str]) -> Spread:
    """Of one arm in the sum of it and others, round by round."""
    return spread([taken[part] / (taken[part] + sum(taken[name] for name in rest)) for taken in rounds])


@dataclass(frozen=True)
class Line:
    """``y = intercept + slope x`` by least squares, and the share of the variance that it explains."""

    slope: float
    intercept: float
    r2: float


def line(x: Sequence[float], y: Sequence[float]) -> Line:
    """The straight line through points.

    Raises:
        ValueError: If fewer than two points have different ``x``.
    """
    xs, ys = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    if len(set(x)) < 2:
        raise ValueError("a line needs two points")
    slope, intercept = np.polyfit(xs, ys, 1)
    total = float(((ys - ys.mean()) ** 2).sum())
    left = float(((ys - slope * xs - intercept) ** 2).sum())
    return Line(float(slope), float(intercept), 1.0 - left / total if total > 0 else 1.0)


def exponent(x: Sequence[float], y: Sequence[float]) -> float:
    """K of the power law ``y ~ x^k`` through points, all positive: 1 is linear, 0 flat."""
    return line([float(np.log(v)) for v in x], [float(np.log(v)) for v in y]).slope
