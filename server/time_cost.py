"""How long a comparison will take: from what it has finished before, else from a step timed here and now."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from server import work
from server.cells import Cell
from server.plan import Plan
from server.results import Row
from server.wire_cost import source_network
from socket_core.config import Experiment
from socket_core.engine import pick_device

OVERHEAD = 1.3
"""A step with its images prepared and its losses, over a bare forward and backward pass: SOCKET on two CPU cores."""
FLOWER_SECONDS = 30.0
"""To start and stop a SuperLink with Ray, once for each seed and number of sites; two CPU cores."""
STEPS = 3


@dataclass(frozen=True)
class Time:
    """A guess.

    Attributes:
        seconds: Of all that is missing.
        low: It may be as little.
        high: Or as much.
        basis: What it was worked out from.
    """

    seconds: float
    low: float
    high: float
    basis: str


def estimate(
    plan: Plan,
    missing: Sequence[Cell],
    sources: Sequence[Experiment],
    kept: Mapping[Cell, Row],
    *,
    flower: bool,
    start: float,
) -> Time:
    """Time of all missing jobs and source models.

    Args:
        plan: For the number of processes.
        missing: Jobs to run.
        sources: Experiments whose source models have to be trained.
        kept: Rows of finished jobs of this comparison.
        flower: Whether federations run over Flower.
        start: Seconds until a process has loaded everything.
    """
    if not missing and not sources:
        return Time(0.0, 0.0, 0.0, "nothing is missing")
    arms = [job for job in missing if job.mode != "federated"]
    federated = [job for job in missing if job.mode == "federated"]
    of_arms = _rate([job for job in kept if job.mode != "federated"], kept)
    of_federations = _rate([job for job in kept if job.mode == "federated"], kept)
    here = _timed(plan.experiment) if of_arms is None or sources or (federated and of_federations is None) else 0.0
    each = of_arms if of_arms is not None else here
    seconds = sum(work.of_cell(job).work for job in arms) * each / plan.workers
    seconds += start * (1 + len({job.experiment.seed for job in arms}))  # this one, and each seed's side by side
    seconds += sum(work.of_source(e).work for e in sources) * here
    for job in federated:
        beside = min(plan.workers, job.experiment.federation.sites) if flower else 1
        rate = of_federations if of_federations is not None else each / beside
        seconds += work.of_cell(job).work * rate
    if flower:
        seconds += FLOWER_SECONDS * len({(j.experiment.seed, j.experiment.federation.sites) for j in federated})
    measured = (of_arms is not None or not arms) and (of_federations is not None or not federated) and not sources
    if measured:
        return Time(seconds, seconds / 1.5, seconds * 1.5, f"{len(kept)} results of this comparison, finished before")
    basis = f"a step timed just now ({1e3 * here:.2f} ms an image), not a run"
    return Time(seconds, seconds / 2, seconds * 3, basis)


def _rate(jobs: Sequence[Cell], kept: Mapping[Cell, Row]) -> float | None:
    """Seconds of one process for a unit of work, or of a federation with all that runs side by side in it."""
    done = sum(work.of_cell(job).work for job in jobs)
    # A row of sites alone has the time of the slowest.
    spent = sum(kept[j].seconds * (j.experiment.federation.sites if j.mode == "local" else 1) for j in jobs)
    return spent / done if done and spent else None


def _timed(experiment: Experiment) -> float:
    """Seconds for each image of a training step, the best of a few with random images."""
    torch.set_num_threads(experiment.threads)
    device, size = pick_device(experiment.device), experiment.data.size
    network = source_network(experiment).to(device)
    network.requires_grad_(True).train()
    images = torch.randn(experiment.method.batch, 3, size, size, device=device)
    best = float("inf")
    for _ in range(1 + STEPS):
        began = time.perf_counter()
        loss = network(images).sum()
        loss.backward()
        loss.item()  # a GPU answers only when it is done
        best = min(best, time.perf_counter() - began)
    return OVERHEAD * best / experiment.method.batch
