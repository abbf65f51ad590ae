"""What passes over the whole set cost beside the steps of an epoch: pseudo-labels, trust, a validator's score."""

from __future__ import annotations

from benchmarks.harness import Round, Run, Spread, interleaved, seconds, spread
from benchmarks.record import Part, figure
from benchmarks.site_loop import SiteLoop
from benchmarks.subjects import RESNET18, TINY


def share_of(rounds: list[Round], work: str, steps: int) -> Spread:
    """Of an arm in an epoch that consists of it and ``steps`` times the arm ``step``."""
    return spread([taken[work] / (taken[work] + steps * taken["step"]) for taken in rounds])


def measure(run: Run) -> Part:
    """An epoch is as many steps as batches of TR images; one step stands for each of them."""
    rounds, figures, count = run.rounds(7, quick=2), [], 320
    for subject in (TINY,) if run.quick else (TINY, RESNET18):
        loop = SiteLoop(subject, count, 160)

        def step(loop: SiteLoop = loop) -> None:
            loop.draw()
            loop.compute()

        arms = {"step": step, "refresh": loop.refresh, "refresh and evaluation": loop.refresh_and_evaluate}
        taken = interleaved(arms, rounds, tell=run.telling_of(subject))
        figures.append(figure(f"{subject}: step with its data", seconds(taken, "step"), "ms", scale=1e3))
        for work in ("refresh", "refresh and evaluation"):
            figures.append(figure(f"{subject}: {work}", share_of(taken, work, loop.steps), "%", "epoch", scale=100))
    return Part({"TR images": count, "TI pairs": 160, "rounds": rounds}, figures)
