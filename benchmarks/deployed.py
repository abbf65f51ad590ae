"""Rounds a minute of a real deployment on this machine: TLS, SuperLink, SuperNodes, a process for each message.

Not among the parts that run by default: it starts an owner and three sites by their own commands, for minutes.
"""

from __future__ import annotations

import sys
import time
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.harness import Run, Tell, spread
from benchmarks.record import Figure, Part, figure
from tests.e2e.plants import Plants, serve_site, serving_owner, wait_for_site
from tests.server.builders import make_world

SITES = 3


def round_ends(plants: Plants, rounds: int, tell: Tell) -> list[float]:
    """When each round was written down, by the clock; the first is when the run began."""
    ends, run = [time.monotonic()], plants.start_run()
    try:
        while run.poll() is None:
            while len(plants.records()) > len(ends) - 1:
                ends.append(time.monotonic())
                tell(f"round {len(ends) - 1} of {rounds}: {ends[-1] - ends[-2]:.0f} s")
            time.sleep(0.1)
    finally:
        code = plants.finished(run)
    ends += [time.monotonic()] * (len(plants.records()) - len(ends) + 1)
    if code or len(ends) != rounds + 1:
        print(plants.output("run").read_text(), file=sys.stderr)
        raise RuntimeError(f"the run ended with {code} after {len(ends) - 1} of {rounds} rounds")
    return ends


def measure(run: Run) -> Part:
    """One run of one step a round: what is measured is everything but training."""
    rounds = run.rounds(8, quick=2)
    changes = {"federation__sites": SITES, "federation__quorum": SITES, "federation__rounds": rounds}
    changes |= {"federation__steps": 1, "federation__evaluate_every": 0, "federation__deadline_seconds": 600}
    names = [f"site-{i:02d}" for i in range(SITES)]
    with TemporaryDirectory() as folder, ExitStack() as stack:
        plants = Plants(make_world(Path(folder) / "world"), Path(folder) / "plants", names, **changes)
        stack.enter_context(serving_owner(plants))
        run.tell("the owner's side is up")
        for name, process in [(name, serve_site(plants, name, stack)) for name in names]:
            wait_for_site(plants, name, process)
        run.tell("all sites are up")
        ends = round_ends(plants, rounds, run.tell)
    lengths = [after - before for before, after in zip(ends[1:], ends[2:], strict=False)]
    figures = [
        Figure("tiny, 3 sites, 1 step: first round, with start and enrolment", ends[1] - ends[0], "s"),
        figure("tiny, 3 sites, 1 step: later rounds by the clock", spread(lengths), "s"),
        figure("tiny, 3 sites, 1 step: rounds by the clock", spread([60 / s for s in lengths]), "per minute"),
    ]
    return Part({"sites": SITES, "rounds": rounds, "steps": 1, "clock": "wall"}, figures)
