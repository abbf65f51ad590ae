"""A look at federations while they run, from the ``rounds.jsonl`` that each writes."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from socket_core.errors import FederationError

SHOWN = 12
"""Rounds of a federation that are shown, the newest last."""

HEADINGS = ("round", "sites", "left out", "accuracy", "worst site", "MB up", "MB down", "seconds")


@dataclass(frozen=True)
class Running:
    """One federation.

    Attributes:
        name: Its folder, below the one that is watched.
        rounds: Its records so far.
        age: Seconds since the last one was written.
    """

    name: str
    rounds: list[dict[str, Any]]
    age: float


def look(folder: Path) -> list[Running]:
    """All federations below a folder, the one that moved last at the end.

    Raises:
        FederationError: If there is none.
    """
    paths = sorted(folder.rglob("rounds.jsonl"), key=lambda path: (path.stat().st_mtime, path))
    if not paths:
        raise FederationError(
            "no rounds.jsonl here or below",
            where=str(folder),
            remedy="give the folder of runs (--out of compare, DIR/runs of a deployment), once a round is over",
        )
    now = time.time()
    return [
        Running(str(path.parent.relative_to(folder)), _records(path), max(0.0, now - path.stat().st_mtime))
        for path in paths
    ]


def plain(found: Sequence[Running]) -> list[dict[str, Any]]:
    """What is shown, as plain values; all rounds."""
    return [
        {"run": one.name, "seconds_ago": round(one.age), "rounds": [facts_of(record) for record in one.rounds]}
        for one in found
    ]


def screen(found: Sequence[Running]) -> RenderableType:
    """A table for each federation."""
    parts: list[RenderableType] = []
    for one in found:
        table = Table(title=one.name, title_justify="left")
        for index, heading in enumerate(HEADINGS):
            table.add_column(heading, justify="left" if index in (1, 2) else "right")
        for record in one.rounds[-SHOWN:]:
            table.add_row(*_cells(facts_of(record)))
        parts += [table, Text(f"last round {_ago(one.age)} ago\n" if one.rounds else "no round is over yet\n")]
    return Group(*parts)


def facts_of(record: dict[str, Any]) -> dict[str, Any]:
    """What somebody who waits wants to know of a round."""
    held_out = record.get("held_out") or {}
    left_out = {**record.get("refused", {}), **record.get("declined", {})}
    return {
        "round": record["round"],
        "stage": record.get("stage", "adapt"),
        "sites": record["sites"],
        "left_out": left_out | dict.fromkeys(record.get("absent", ()), "gone"),
        "accuracy": held_out.get("mean"),
        "worst_site": held_out.get("worst"),
        "bytes_up": record["bytes_up"],
        "bytes_down": record["bytes_down"] + record.get("release_bytes", 0),
        "seconds": record.get("train_seconds"),
    }


def _cells(facts: dict[str, Any]) -> tuple[str, ...]:
    left_out = ", ".join(f"{site} ({why})" for site, why in facts["left_out"].items())
    stage = " translator" if facts["stage"] == "bridge" else ""
    return (
        f"{facts['round']}{stage}",
        str(len(facts["sites"])),
        left_out,
        _percent(facts["accuracy"]),
        _percent(facts["worst_site"]),
        f"{facts['bytes_up'] / 1e6:.2f}",
        f"{facts['bytes_down'] / 1e6:.2f}",
        "-" if facts["seconds"] is None else f"{facts['seconds']:.1f}",
    )


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f}"


def _ago(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"


def _records(path: Path) -> list[dict[str, Any]]:
    """All whole lines: the last one may be being written."""
    whole = path.read_text(encoding="utf-8").split("\n")[:-1]
    return [json.loads(line) for line in whole]
