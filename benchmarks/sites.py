"""From 2 to 200 simulated sites, three rounds, the tiny network: time and memory of the whole process.

All images together stay as many, so a site's work does not grow with the number of sites: what grows is theirs alone.
Server and sites share the process; the server's own memory is the part ``memory``'s.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.child import Found, Peak, in_child
from benchmarks.federation import Trial, render
from benchmarks.harness import Run, exponent, line
from benchmarks.record import Figure, Part
from benchmarks.subjects import TINY, experiment

SCENES = {"source_train": 16, "source_test": 8, "target_train": 800, "target_test": 8, "ti": 800}


def federation_of(sites: int, rounds: int) -> Found:
    """CPU and wall seconds, and the largest size above that before the first message."""
    settings = {"sites": sites, "quorum": sites, "rounds": rounds, "steps": 1, "partition": "iid"}
    limits = {"evaluate_every": 0, "enrol_seconds": 3600.0, "deadline_seconds": 3600.0}
    asked = experiment(TINY, data={"scenes": SCENES}, federation=settings | limits, method={"batch": 4})

    def observe(step: str, facts: dict[str, Any]) -> None:
        if step == "round closed":
            print(f"{sites} sites: round {facts['round']} of {rounds}", file=sys.stderr, flush=True)

    with TemporaryDirectory() as folder:
        trial = Trial(Path(folder), asked)
        peak, cpu, wall = Peak(), time.process_time(), time.monotonic()
        records = trial.run(observe)
        found = {"cpu": time.process_time() - cpu, "wall": time.monotonic() - wall, "mb": peak.above()}
    return found | {"rounds": float(len(records)), "answers": float(sum(len(r["sites"]) for r in records))}


def measure(run: Run) -> Part:
    """A process for each number of sites."""
    counts, rounds = ((2, 6), 2) if run.quick else ((2, 10, 50, 200), 3)
    figures, found = [], []
    render(experiment(TINY, data={"scenes": SCENES}), run.tell)
    for sites in counts:
        one = in_child("sites", "federation_of", sites=sites, rounds=rounds)
        run.tell(f"{sites} sites: {one['wall']:.0f} s, {one['answers']:.0f} answers, {one['mb']:.0f} MB")
        figures.append(Figure(f"{sites} sites: {rounds} rounds", one["cpu"], "CPU s"))
        figures.append(Figure(f"{sites} sites: peak", one["mb"], "MB", "before the first message"))
        figures.append(Figure(f"{sites} sites: answers", one["answers"] / (sites * rounds), "x", "asked"))
        found.append(one)
    each = line(counts, [one["cpu"] for one in found])
    figures += [
        Figure("time: power of the number of sites", exponent(counts[-3:], [o["cpu"] for o in found[-3:]]), "exponent"),
        Figure("time: each site and round", each.slope / rounds, "CPU s"),
        Figure("time: share of the variance that a line explains", each.r2, "r²"),
        Figure("memory: each further site", line(counts, [o["mb"] for o in found]).slope, "MB"),
    ]
    return Part({"rounds": rounds, "steps": 1, "images": "800 TR and 800 pairs of all sites together"}, figures)
