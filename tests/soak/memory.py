"""How memory of long-lived processes grows: the slope within their lives, since a restart begins again from nothing."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

SETTLED = 2
"""Samples of a life that do not count: what a process still imports and caches is no leak."""


def resident_mb(pid: int) -> float:
    """Resident size of a process now."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    return 0.0


@dataclass
class Sizes:
    """Resident sizes of one role, for example of a site's SuperNode, one figure a round.

    Attributes:
        lives: For each process that had the role, by its id: rounds done and MB.
    """

    lives: dict[int, list[tuple[int, float]]] = field(default_factory=dict)

    def add(self, pid: int, done: int, mb: float) -> None:
        """Keeps a figure, unless this process already has one of that round."""
        seen = self.lives.setdefault(pid, [])
        if not seen or seen[-1][0] != done:
            seen.append((done, mb))

    def summary(self) -> dict[str, float] | None:
        """Slope within lives in MB a round, the rounds it rests on, and the largest size; None for too few rounds."""
        slope = slope_within(life[SETTLED:] for life in self.lives.values())
        if slope is None:
            return None
        rounds = sum(max(0, len(life) - SETTLED) for life in self.lives.values())
        largest = max(mb for life in self.lives.values() for _, mb in life)
        return {"mb_a_round": round(slope, 3), "rounds": rounds, "lives": len(self.lives), "largest_mb": round(largest)}


def slope_within(lives: Iterable[list[tuple[int, float]]]) -> float | None:
    """Least-squares slope with a level of its own for each life; None if no life has two rounds."""
    above, below = 0.0, 0.0
    for life in lives:
        if len(life) >= 2:
            x, y = np.array(life, dtype=float).T
            above += float((x - x.mean()) @ (y - y.mean()))
            below += float((x - x.mean()) @ (x - x.mean()))
    return above / below if below else None
