"""The methods by name."""

from __future__ import annotations

from socket_core.config import BnPolicy, Experiment, MethodConfig
from socket_core.methods.adabn import AdaBN
from socket_core.methods.base import Method
from socket_core.methods.oracle import Oracle
from socket_core.methods.shot import Shot
from socket_core.methods.socket import Socket
from socket_core.methods.unadapted import Unadapted

METHODS: dict[str, type[Method]] = {m.name: m for m in (Unadapted, AdaBN, Shot, Socket, Oracle)}


def build_method(cfg: MethodConfig, bn_policy: BnPolicy) -> Method:
    """The method that the configuration names."""
    return METHODS[cfg.name](cfg, bn_policy)


def needs_pairs(cfg: MethodConfig) -> bool:
    """Whether a job looks at TI pairs at all: with weight 0 it runs at a site that has none."""
    return METHODS[cfg.name].uses_ti and cfg.weights.ti > 0


def rounds_of(experiment: Experiment) -> int:
    """Rounds of a job: one for a method that takes no gradient step, since more would change nothing."""
    return experiment.federation.rounds if METHODS[experiment.method.name].trains else 1


__all__ = ["METHODS", "Method", "build_method", "needs_pairs", "rounds_of"]
