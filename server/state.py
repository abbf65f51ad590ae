"""The server's explicit state: all that a round needs and all that a checkpoint holds."""

from __future__ import annotations

from dataclasses import dataclass

from socket_core.config import Experiment
from socket_core.engine import make_bridge
from socket_core.exchange import Flat, bridge_specs, flatten, parameters_of, travelling_specs
from socket_core.models import Model
from socket_core.packing import Change
from socket_core.stages import shares_bridge


@dataclass(frozen=True)
class PooledBatchNorm:
    """Running means and variances of all BatchNorm layers as two flat arrays."""

    mean: Flat
    var: Flat


@dataclass(frozen=True)
class ServerState:
    """A federation between two rounds.

    Attributes:
        experiment: Name of this job; sites keep their own state under it.
        round: Rounds completed.
        parameters: Travelling parameters, flat, in the order of ``travelling_specs``.
        batchnorm: Pooled statistics, once a round with ``bn_policy: pooled`` is over.
        bridge: Parameters of the shared translator, where there is one, in the order of ``bridge_specs``.
        unrounded: What ``parameters`` would be had no change been rounded on its way down; None where none was. Needed
            once a round, a stretch at a time: it lies in a file, once the round is over in the checkpoint, and can be
            read as long as that is there.
    """

    experiment: str
    round: int
    parameters: Flat
    batchnorm: PooledBatchNorm | None = None
    bridge: Flat | None = None
    unrounded: Change | None = None


def init(source: Model, experiment: Experiment, job: str) -> ServerState:
    """The state before the first round: the source's parameters, and an untrained translator.

    Args:
        source: The source model.
        experiment: What to do.
        job: Name of the job.
    """
    policy = experiment.federation.bn_policy
    bridge = make_bridge(experiment, source) if shares_bridge(experiment) else None
    return ServerState(
        job,
        0,
        flatten(parameters_of(source), travelling_specs(source, policy)),
        bridge=flatten(parameters_of(bridge), bridge_specs(bridge)) if bridge is not None else None,
    )
