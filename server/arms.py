"""The arms that no network is needed for: unadapted, each site alone, all data in one place, the oracle.

They run the very engine that a federated site runs. The centralised arm is a federation of one site that
holds everything, with as many steps as all sites together: equal sample visits.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from server.by_site import class_counts
from server.examples import Said, example_images, said_by
from server.sources import SourceFiles
from socket_core.combined import combine
from socket_core.config import Experiment
from socket_core.data.catalogue import Share, load_task, pool_shares, site_name, split_task
from socket_core.data.loader import Preprocessing
from socket_core.data.types import Labelled
from socket_core.engine import adapt_alone
from socket_core.evaluation import Confusion, evaluate
from socket_core.methods import METHODS
from socket_core.privacy.simulated import simulated_budget


@dataclass(frozen=True)
class Arm:
    """One job for one process.

    Attributes:
        experiment: Its method, seed and data.
        site: Index of the site that adapts alone, or None for all data in one place.
        sources: Releases of the source models.
        cache: Rendered or decoded images.
    """

    experiment: Experiment
    site: int | None
    sources: SourceFiles
    cache: Path


@dataclass(frozen=True)
class ArmResult:
    """Held-out confusion after each round (first: before any), transductive confusion at the end.

    ``kept`` is the round whose network is the result: the last, unless a validator chose another. ``site`` is the
    site that adapted alone, empty for one place with all data; ``images`` counts the labels of what was adapted to by
    class, ``(K,)``, for reports; ``said`` is what the result says of the example images.
    """

    held_out: list[Confusion]
    transductive: Confusion
    steps: int
    visits: int
    seconds: float
    kept: int
    site: str = ""
    images: tuple[int, ...] = ()
    said: tuple[Said, ...] = ()


def run_arm(arm: Arm, on_round: Callable[[int, int], None] | None = None) -> ArmResult:
    """Runs one arm in this process.

    Args:
        arm: What to run.
        on_round: Called with (rounds done, rounds).
    """
    torch.set_num_threads(arm.experiment.threads)
    task = load_task(arm.experiment.data, cache=arm.cache)
    sites = arm.experiment.federation.sites
    shares = split_task(task, arm.experiment, sites)
    if arm.site is None:
        share, name, experiment = pool_shares(shares), site_name(0), with_steps(arm.experiment, sites)
    else:
        share, name, experiment = shares[arm.site], site_name(arm.site), arm.experiment
    releases = arm.sources.read()
    network, source = combine(releases), combine(releases)
    prep, classes = Preprocessing.of(experiment.data), len(task.classes)
    labels = share.tr_labels if METHODS[experiment.method.name].oracle else None
    started = time.monotonic()
    held_out = [evaluate(network, task.target_test, prep, classes)]

    def round_over(done: int, rounds: int) -> None:
        held_out.append(evaluate(network, task.target_test, prep, classes))
        if on_round is not None:
            on_round(done, rounds)

    with simulated_budget(share.data.ti, experiment) as budget:
        total = adapt_alone(
            network, source, share.data, experiment, name, labels=labels, budget=budget, on_round=round_over
        )
    transductive = evaluate(network, _labelled(share), prep, classes)
    seconds, site = time.monotonic() - started, name if arm.site is not None else ""
    return ArmResult(
        held_out,
        transductive,
        total.steps,
        total.visits,
        seconds,
        total.kept,
        site=site,
        images=class_counts(share.tr_labels, classes),
        said=(said_by(network, example_images(task), prep, site),),
    )


def with_steps(experiment: Experiment, factor: int) -> Experiment:
    """The experiment with ``factor`` times the steps a round."""
    federation = experiment.federation
    steps = federation.model_copy(update={"steps": federation.steps * factor})
    return experiment.model_copy(update={"federation": steps})


def _labelled(share: Share) -> Labelled:
    return Labelled(share.data.tr, np.asarray(share.tr_labels))
