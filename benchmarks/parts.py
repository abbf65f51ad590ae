"""Which parts there are, each a module with a function ``measure``."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import cast

from benchmarks.harness import Run
from benchmarks.record import Part

PARTS = ("step", "data", "refresh", "wire", "aggregate", "memory", "rounds", "scale", "sites", "dp_step", "gpu")
OPTIONAL = ("deployed", "simulated")
"""Parts that start Flower's own processes, for minutes."""


Measure = Callable[[Run], Part]
"""What a part offers."""


def part_of(name: str) -> Measure:
    """The function that measures a part; imported only when asked for."""
    return cast(Measure, import_module(f"benchmarks.{name}").measure)
