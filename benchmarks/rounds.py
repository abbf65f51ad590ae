"""Rounds a minute in this process, and what the federation adds to the local steps that it asks for.

Both arms do the same steps on the same images, four sites after one another: one with the server's loop, messages,
the site's policy, gate and journal, the other with nothing but ``engine.adapt``. Evaluation is counted apart: the
steps alone have none.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.federation import Trial, render
from benchmarks.harness import Run, Tell, spread
from benchmarks.record import Part, figure
from benchmarks.subjects import TINY, experiment
from socket_core.config import Experiment
from socket_core.data.catalogue import Share, site_name, split_task
from socket_core.engine import Segment, adapt

SITES = 4


def federated(asked: Experiment, tell: Tell) -> dict[str, float]:
    """CPU and wall seconds of all rounds, and CPU seconds of the evaluation after the last."""
    marks: dict[str, tuple[float, float]] = {}
    spent = {"rounds": 0.0, "wall": 0.0, "evaluation": 0.0}

    def observe(step: str, facts: dict[str, Any]) -> None:
        now = time.process_time(), time.monotonic()
        if step == "checkpoint saved":
            spent["rounds"] += now[0] - marks["round opened"][0]
            spent["wall"] += now[1] - marks["round opened"][1]
            tell(f"round {facts['round']} of {asked.federation.rounds} federated")
        elif step == "evaluated":
            spent["evaluation"] += now[0] - marks["checkpoint saved"][0]
        marks[step] = now

    with TemporaryDirectory() as folder:
        trial = Trial(Path(folder), asked)
        trial.run(observe)
    return spent


def alone(asked: Experiment, shares: list[Share]) -> float:
    """CPU seconds of the same segments without a federation."""
    with TemporaryDirectory() as folder:
        release = Trial(Path(folder), asked).job.release
    networks, source = [release.network() for _ in shares], release.network()
    start = time.process_time()
    for round_ in range(1, asked.federation.rounds + 1):
        for i, (share, network) in enumerate(zip(shares, networks, strict=True)):
            segment = Segment(
                site_name(i), round_, asked.federation.steps, asked.federation.rounds, round_ == 1, federated=True
            )
            adapt(network, source, share.data, asked, segment)
    return time.process_time() - start


def measure(run: Run) -> Part:
    """The demo's sizes: 4 sites, 40 steps of 32 + 32 images a round."""
    repeats, steps, rounds = run.rounds(3, quick=1), 4 if run.quick else 40, 2
    federation = {"sites": SITES, "quorum": SITES, "rounds": rounds, "steps": steps, "evaluate_every": 0}
    asked = experiment(TINY, federation=federation | {"partition": "iid"})
    shares = split_task(render(asked, run.tell), asked, SITES)
    found = []
    for turn in range(repeats + 1):  # the first one warms up
        order: list[Callable[[], Any]] = [lambda: federated(asked, run.tell), lambda: alone(asked, shares)]
        one, other = [arm() for arm in order] if turn % 2 else [arm() for arm in reversed(order)][::-1]
        if turn:
            found.append(one | {"alone": other})
        run.tell(f"repeat {turn} of {repeats}: {one['rounds']:.1f} s federated, {other:.1f} s alone")
    name = f"tiny, {SITES} sites, {steps} steps"
    figures = [
        figure(f"{name}: rounds", spread([60 * rounds / one["rounds"] for one in found]), "per CPU minute"),
        figure(f"{name}: rounds by the clock", spread([60 * rounds / one["wall"] for one in found]), "per minute"),
        figure(f"{name}: federation", spread([one["rounds"] / one["alone"] for one in found]), "x", "steps alone"),
        figure(f"{name}: evaluation", spread([one["evaluation"] for one in found]), "s"),
    ]
    return Part({"sites": SITES, "rounds": rounds, "steps": steps, "repeats": repeats}, figures)
