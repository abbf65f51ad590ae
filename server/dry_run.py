"""``socket-owner compare --dry-run``: what would run, what it would cost and what would be written. Nothing is."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from server import capacity, time_cost
from server.cells import Cell, cell_epsilon, settings_mark
from server.grid import check_names
from server.plan import Plan, as_compared, job_of
from server.results import Row, row_from
from server.sources import source_files
from server.tally import duration
from server.time_cost import Time
from server.wire_cost import Travel, travel
from socket_core.methods import METHODS


@dataclass(frozen=True)
class Planned:
    """A line of the table in one mode with one seed.

    Attributes:
        label: Of the line.
        mode: Who adapts.
        seed: The seed.
        state: ``kept``; ``to run``; or ``shared`` with a line above that runs it.
        epsilon: That the job will cost each place, by the accounting; None without DP.
        epsilon_unit: Of it.
        travel: Of a federation that is to run.
    """

    label: str
    mode: str
    seed: int
    state: str
    epsilon: float | None
    epsilon_unit: str
    travel: Travel | None


@dataclass(frozen=True)
class Look:
    """What a comparison would do.

    Attributes:
        cells: Everything in the table, seed by seed.
        train: Folders of the source models that are to be trained.
        time: Of what is missing.
        workers: Processes side by side.
        memory_each: Bytes of one, roughly.
        memory_free: Bytes that are free, if the system says.
        writes: Path and meaning of what is written.
    """

    cells: tuple[Planned, ...]
    train: tuple[str, ...]
    time: Time
    workers: int
    memory_each: int
    memory_free: int | None
    writes: tuple[tuple[str, str], ...]

    @property
    def travel(self) -> Travel:
        """Of all federations that are to run; each seed's release once to each site that there will be."""
        own = [cell for cell in self.cells if cell.travel is not None]
        releases = {
            seed: max(c.travel.release for c in own if c.seed == seed and c.travel) for seed in {c.seed for c in own}
        }
        return Travel(
            sum(c.travel.up for c in own if c.travel),
            sum(c.travel.down for c in own if c.travel),
            sum(releases.values()),
        )

    def plain(self) -> dict[str, Any]:
        """For JSON."""
        states = [cell.state for cell in self.cells]
        return {
            "dry_run": True,
            "counts": {state: states.count(state) for state in ("to run", "shared", "kept")},
            "cells": [asdict(cell) for cell in self.cells],
            "source_models_to_train": list(self.train),
            "seconds": asdict(self.time),
            "bytes": asdict(self.travel),
            "memory": {"workers": self.workers, "each": self.memory_each, "free": self.memory_free},
            "writes": dict(self.writes),
        }


def look(plan: Plan, *, flower: bool, start: float = 0.0) -> Look:
    """What :func:`server.compare.compare` would do with this plan; reads what an earlier call kept and writes nothing.

    Args:
        plan: The plan.
        flower: Whether federations run over Flower.
        start: Seconds that this process took to load everything: others will take as long.

    Raises:
        SocketError: If the plan is refused before anything runs.
    """
    for method in plan.methods:
        METHODS[method].check_sources(1 + len(plan.experiment.further_sources))
    check_names(plan.grid, plan.variants)
    cells, seen, kept, missing = [], set[Cell](), dict[Cell, Row](), list[Cell]()
    sources = [as_compared(plan.experiment, seed) for seed in plan.seeds]
    to_train = [e for e in sources if not all(f.exists() for f in source_files(plan.home, e).folders)]
    for cell in (cell for seed in plan.seeds for cell in plan.cells(seed)):
        job = job_of(cell)
        state = "shared" if job in seen else "to run"
        row = None if cell.experiment.seed in {e.seed for e in to_train} else _kept(job, plan.home)
        if row is not None:
            state, kept[job] = "kept", row
        elif job not in seen:
            missing.append(job)
        seen.add(job)
        moves = state == "to run" and cell.mode == "federated"
        spent = cell_epsilon(cell) if cell.mode != "unadapted" else (None, "none")
        sent = travel(cell.experiment) if moves else None
        cells.append(Planned(cell.label, cell.mode, cell.experiment.seed, state, *spent, sent))
    need = max(capacity.memory_of_worker(job.experiment) for job in seen)
    return Look(
        tuple(cells),
        tuple(str(f) for e in to_train for f in source_files(plan.home, e).folders if not f.exists()),
        time_cost.estimate(plan, missing, to_train, kept, flower=flower, start=start),
        plan.workers,
        need,
        capacity.free_memory(),
        tuple(_writes(plan, missing, flower=flower)),
    )


def describe(found: Look) -> list[str]:
    """For people, in lines."""
    counts = found.plain()["counts"]
    lines = [
        f"{len(found.cells)} results: {counts['to run']} to run, {counts['shared']} taken from these, "
        f"{counts['kept']} kept from an earlier run if images and source models are as they were",
        "",
        *_table(found.cells),
        "",
        f"time    {_time(found.time)}",
    ]
    if found.train:
        lines.append(f"        with {len(found.train)} source models to train")
    if (sent := found.travel).up:
        lines.append(
            f"bytes   {sent.up / 1e6:.2f} MB up, {sent.down / 1e6:.2f} MB down, payloads of all federations to run; "
            f"releases about {sent.release / 1e6:.2f} MB"
        )
    free = f", {found.memory_free / 2**30:.1f} GiB free" if found.memory_free is not None else ""
    lines.append(f"memory  about {found.memory_each / 2**30:.1f} GiB in each of {found.workers} processes{free}")
    units = list(dict.fromkeys(cell.epsilon_unit for cell in found.cells if cell.epsilon is not None))
    lines.append(f"epsilon {'; '.join(units) if units else 'none: no differential privacy'}")
    return [*lines, "", "would be written:", *(f"  {path}  {what}" for path, what in found.writes)]


def _table(cells: Sequence[Planned]) -> list[str]:
    """A line for each label and mode; its seeds are alike but for their states."""
    by: dict[tuple[str, str], list[Planned]] = {}
    for cell in cells:
        by.setdefault((cell.label, cell.mode), []).append(cell)
    wide = max(len(label) for label, _ in by)
    lines = []
    for (label, mode), own in by.items():
        states = [f"{[c.state for c in own].count(s)} {s}" for s in dict.fromkeys(c.state for c in own)]
        sent = next((c.travel for c in own if c.travel is not None), None)
        spent = f"epsilon {own[0].epsilon:.2f}" if own[0].epsilon is not None else ""
        moved = f"{sent.up / 1e6:.2f} MB up, {sent.down / 1e6:.2f} MB down" if sent is not None else ""
        lines.append(f"  {label:{wide}}  {mode:11}  {', '.join(states):18}  {spent:14}  {moved}".rstrip())
    return lines


def _time(time: Time) -> str:
    if not time.seconds:
        return f"none: {time.basis}"
    low, high = duration(time.low), duration(time.high)
    return f"about {duration(time.seconds)}, {low} to {high} on this machine as it is now; from {time.basis}"


def _kept(job: Cell, home: Path) -> Row | None:
    """The row of a finished job with these settings; whether images and release are the same is not looked at."""
    try:
        content = json.loads(job.path(home).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return row_from(content["row"]) if content.get("settings") == settings_mark(job) else None


def _writes(plan: Plan, missing: Sequence[Cell], *, flower: bool) -> list[tuple[str, str]]:
    home = plan.home
    found = [
        (home / "results.json", "all rows, settings, versions"),
        (home / "report.html", "the page; report.md, results.csv and curves.png beside it"),
    ]
    if missing:
        found += [
            (home / "cells", f"{len(missing)} finished results, each as soon as it is there"),
            (home / "release-seedN", f"signed source models of seeds {', '.join(map(str, plan.seeds))}"),
            (home / "keys", "the owner's signing keys"),
        ]
    if any(job.mode == "federated" for job in missing):
        found += [
            (home / "NAME-METHOD-seedN" / "federated", "rounds and the newest two checkpoints of each federation"),
            (home / "sites", "what simulated sites keep"),
            (home / "experiments", "settings of each federation"),
        ]
        found += [(home / "flower-run.log", "and superlink.log: what Flower says")] if flower else []
    if missing:
        found.append((home / "sites.log", "warnings of simulated sites"))
    return [(str(path), what) for path, what in [*found, (plan.cache, "rendered or decoded images")]]
