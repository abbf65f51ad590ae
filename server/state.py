"""The server's explicit state: all that a round needs and all that a checkpoint holds."""

from __future__ import annotations

from dataclasses import dataclass

from socket_core.config import BnPolicy
from socket_core.exchange import Flat, flatten, parameters_of, travelling_specs
from socket_core.models import Model


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
    """

    experiment: str
    round: int
    parameters: Flat
    batchnorm: PooledBatchNorm | None = None


def init(source: Model, policy: BnPolicy, experiment: str) -> ServerState:
    """The state before the first round: the source's parameters."""
    return ServerState(experiment, 0, flatten(parameters_of(source), travelling_specs(source, policy)))
