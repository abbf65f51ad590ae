"""Differences of two rows of a comparison, paired by seed, with an interval."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from scipy.special import stdtrit

from server.results import Mode, Row, mean_and_spread

LEVEL = 0.95
NOISE = (
    "Within noise: the 95 % interval of the difference holds 0, or there is one seed. It does not mean that there is "
    "no difference. Intervals are of Student's t over seeds, and not corrected for their number."
)


def signed(value: float) -> str:
    """With its sign and one decimal place; what rounds to nothing is +0.0."""
    return f"{value:+.1f}".replace("-0.0", "+0.0") if abs(value) < 0.1 else f"{value:+.1f}"


class Difference(NamedTuple):
    """Accuracy of one side minus that of the other with the same seeds, in percentage points.

    Attributes:
        mean: Over the seeds that both have.
        spread: Sample standard deviation over them; None for a single one.
        seeds: How many.
    """

    mean: float
    spread: float | None
    seeds: int

    @property
    def interval(self) -> tuple[float, float] | None:
        """Ends of the 95 % confidence interval of the mean by Student's t; None for a single seed."""
        if self.spread is None:
            return None
        half = float(stdtrit(self.seeds - 1, (1 + LEVEL) / 2)) * self.spread / math.sqrt(self.seeds)
        return self.mean - half, self.mean + half

    @property
    def within_noise(self) -> bool:
        """Whether the interval holds 0, or there is none."""
        return self.interval is None or self.interval[0] <= 0 <= self.interval[1]

    def text(self) -> str:
        """In points, with interval, number of seeds, and whether it is within noise; of one seed nobody knows."""
        if self.interval is None:
            return f"{signed(self.mean)} points (one seed: its noise is not known)"
        low, high = map(signed, self.interval)
        noise = ": within noise" if self.within_noise else ""
        return f"{signed(self.mean)} points (95 % interval {low} to {high}, {self.seeds} seeds){noise}"


def between(rows: Sequence[Row], a: tuple[str, Mode], b: tuple[str, Mode]) -> Difference | None:
    """By how much the rows of ``a`` are above those of ``b``, seed by seed; None if they share none.

    Seeds differ in source model and shares, which both sides meet alike: differences vary less than accuracies.

    Args:
        rows: Of a comparison.
        a: Label and mode. The unadapted model is the same in every mode.
        b: Likewise.
    """
    of_a, of_b = (
        {r.seed: 100 * r.accuracy for r in rows if r.label == label and r.mode in (mode, "unadapted")}
        for label, mode in (a, b)
    )
    both = [of_a[seed] - of_b[seed] for seed in of_a if seed in of_b]
    return Difference(*mean_and_spread(both), len(both)) if both else None


class Compared(NamedTuple):
    """A line of the table of differences.

    Attributes:
        above: Label and mode of the one side.
        below: Of the other, which is subtracted.
        found: Their difference.
    """

    above: tuple[str, Mode]
    below: tuple[str, Mode]
    found: Difference


def adapted(rows: Sequence[Row]) -> list[str]:
    """Labels of rows that adapt without target labels, in the order of the rows."""
    return list(dict.fromkeys(r.label for r in rows if r.mode != "unadapted" and not r.oracle))


def of_modes(rows: Sequence[Row], mode: Mode, other: Mode) -> list[Compared]:
    """Each label in one mode minus itself in another, where it has both."""
    pairs = [((label, mode), (label, other)) for label in adapted(rows)]
    return [Compared(a, b, found) for a, b in pairs if (found := between(rows, a, b)) is not None]


def of_steps(rows: Sequence[Row]) -> list[Compared]:
    """Each plain method minus the one before it in the table, bounds left out, federated and centralised."""
    methods = list(dict.fromkeys(r.label for r in rows if r.label == r.method and not r.oracle))
    modes: tuple[Mode, ...] = ("federated", "centralised")
    pairs = [((m, mode), (before, mode)) for before, m in zip(methods, methods[1:], strict=False) for mode in modes]
    return [Compared(a, b, found) for a, b in pairs if (found := between(rows, a, b)) is not None]
