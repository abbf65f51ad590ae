"""How far a comparison is, and how long it will still take, judged by what it has finished itself."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Hashable, Mapping
from typing import NamedTuple

ENOUGH = 0.05
"""Share of the work after which its speed is worth saying: processes that start are slower than those that run."""


class Part(NamedTuple):
    """One part of the work.

    Attributes:
        work: How much of it there is, in any unit that all parts share.
        result: Whether it is one of the results that are counted, and not only on the way to them.
    """

    work: float
    result: bool = True


class Tally:
    """Which parts are done, and how fast they were.

    Args:
        parts: All parts by name.
        clock: Seconds, monotonic.
    """

    def __init__(self, parts: Mapping[Hashable, Part], clock: Callable[[], float] = time.monotonic) -> None:
        self._parts, self._clock = dict(parts), clock
        self._done: dict[Hashable, float] = dict.fromkeys(parts, 0.0)
        self._kept: set[Hashable] = set()
        self._began = clock()
        self._last, self._estimate = self._began, math.nan

    def begin(self) -> None:
        """From now on time tells how fast the work is: what came before was none of the parts."""
        self._began = self._clock()

    @property
    def results(self) -> tuple[int, int]:
        """Results that are there, and all of them."""
        names = [name for name, part in self._parts.items() if part.result]
        return sum(self._done[name] >= 1 for name in names), len(names)

    @property
    def share(self) -> float:
        """Share of all work that is done, 0 to 1."""
        total = sum(part.work for part in self._parts.values())
        return sum(part.work * self._done[name] for name, part in self._parts.items()) / total if total else 1.0

    def keep(self, name: Hashable) -> None:
        """A part that an earlier run did: it tells nothing of the speed."""
        self._kept.add(name)
        self._done[name] = 1.0

    def report(self, name: Hashable, done: float, of: float) -> None:
        """Part of a part is done; all of it if ``done`` is ``of``."""
        self._done[name] = min(1.0, done / of) if of else 1.0
        self._last, self._estimate = self._clock(), self._left_now()

    def left(self) -> float | None:
        """Seconds that it will still take; None while this run has done too little to tell."""
        left = self._estimate - (self._clock() - self._last)
        return None if math.isnan(left) else max(0.0, left)

    def _left_now(self) -> float:
        own = [name for name in self._parts if name not in self._kept]
        done = sum(self._parts[name].work * self._done[name] for name in own)
        open_ = sum(self._parts[name].work * (1 - self._done[name]) for name in own)
        return (self._clock() - self._began) * open_ / done if done > ENOUGH * (done + open_) else math.nan


def duration(seconds: float) -> str:
    """``40 s``, ``12 min``, ``3 h 05 min``: as exact as such a guess can be."""
    if seconds < 60:
        return f"{max(5, 5 * round(seconds / 5))} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"
