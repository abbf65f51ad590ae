"""What a part of the benchmarks found, as JSON: figures with their spread, and what a reader needs to doubt them."""

from __future__ import annotations

import json
import os
import platform
import shlex
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.harness import Spread
from server.results import environment
from socket_core.files import write_atomically

KIND = "performance"


@dataclass(frozen=True)
class Figure:
    """One line of a table.

    Attributes:
        name: What was measured; goals refer to it.
        value: The median, or the only value.
        unit: ``x`` for a ratio, ``%`` for a share, else of the value.
        of: Of a ratio or share, what it is over.
        low: Lower quartile.
        high: Upper quartile.
        count: Rounds; 1 for what was counted and not timed.
    """

    name: str
    value: float
    unit: str
    of: str = ""
    low: float | None = None
    high: float | None = None
    count: int = 1


@dataclass(frozen=True)
class Part:
    """All figures of one part.

    Attributes:
        settings: Sizes and rounds.
        figures: In the order of the table.
        notes: Sentences that belong below it.
    """

    settings: dict[str, Any]
    figures: list[Figure]
    notes: list[str] = field(default_factory=list)


def figure(name: str, found: Spread, unit: str, of: str = "", *, scale: float = 1.0) -> Figure:
    """A figure from a spread, multiplied by ``scale`` (100 for shares in %)."""
    low, high = (found.low * scale, found.high * scale) if found.count > 1 else (None, None)
    return Figure(name, found.median * scale, unit, of, low, high, found.count)


def load() -> float:
    """Processes that wanted a core over the last minute."""
    return round(os.getloadavg()[0], 2)


def facts(name: str, *, quick: bool, load_before: float, most: int | None = None) -> dict[str, Any]:
    """Command, hardware, versions, date and load of a run that ends now."""
    command = ["python", "-m", "benchmarks", name, *(["--quick"] if quick else [])]
    if most is not None:
        command += ["--rounds", str(most)]
    return {
        **environment(shlex.join(command)),
        "processor": processor(),
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "quick": quick,
        "load": [load_before, load()],
    }


def processor() -> str:
    """What the CPU calls itself, and how many cores this process may use."""
    name = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    for text in info.read_text().splitlines() if info.exists() else ():
        if text.startswith("model name"):
            name = text.partition(":")[2].strip()
            break
    return f"{name}, {len(os.sched_getaffinity(0))} cores"


def keep(path: Path, name: str, part: Part, about: dict[str, Any]) -> None:
    """Writes a part into a results file; the other parts in it stay."""
    content: dict[str, Any] = {"kind": KIND, "parts": {}}
    if path.exists():
        content = json.loads(path.read_text(encoding="utf-8"))
    content["parts"][name] = {**asdict(part), "facts": about}
    write_atomically(path, (json.dumps(content, indent=1, sort_keys=False) + "\n").encode())
