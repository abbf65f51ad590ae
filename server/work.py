"""How much work the parts of a comparison are, in images that a training step sees: what time is shared out by."""

from __future__ import annotations

from server.cells import Cell
from server.tally import Part
from socket_core.config import Experiment
from socket_core.methods import METHODS, needs_pairs
from socket_core.stages import rounds_of

FORWARD = 1 / 3
"""An image that is only looked at, against one that a step learns from: backward passes cost twice a forward one."""


def training(cell: Cell) -> float:
    """Images that gradient steps will see, all sites together; as many centralised."""
    experiment, federation = cell.experiment, cell.experiment.federation
    if cell.mode == "unadapted" or not METHODS[experiment.method.name].trains:
        return 0.0
    return federation.sites * federation.steps * rounds_of(experiment) * _per_step(experiment)


def testing(cell: Cell) -> float:
    """Images that are only looked at: the held-out ones after each round, and those that were adapted to."""
    experiment, federation = cell.experiment, cell.experiment.federation
    counts = experiment.data.scenes  # of other data nobody knows before they are read: the same stands for them
    models = federation.sites if cell.mode in ("local", "federated") else 1
    if cell.mode == "unadapted":
        return counts.target_test + counts.target_train
    looks = rounds_of(experiment) + (cell.mode != "federated")
    each_round = models * counts.target_test * looks
    return each_round + counts.target_train * (rounds_of(experiment) if cell.mode == "federated" else 1)


def of_cell(cell: Cell) -> Part:
    """A result."""
    return Part(training(cell) + FORWARD * testing(cell))


def of_source(experiment: Experiment) -> Part:
    """The source models of a seed."""
    seen = experiment.source.epochs * experiment.data.scenes.source_train * (1 + len(experiment.further_sources))
    return Part(float(seen), result=False)


def _per_step(experiment: Experiment) -> float:
    method, private = experiment.method, experiment.privacy
    if not needs_pairs(method):
        return method.batch
    return method.batch + (private.expected_batch / private.every if private is not None else method.batch)
