"""The methods by name."""

from __future__ import annotations

from socket_core.config import BnPolicy, MethodConfig
from socket_core.methods.adabn import AdaBN
from socket_core.methods.base import Method
from socket_core.methods.oracle import Oracle
from socket_core.methods.shot import Shot
from socket_core.methods.socket import Socket
from socket_core.methods.tgkt import Tgkt
from socket_core.methods.tgmb import Tgmb
from socket_core.methods.unadapted import Unadapted

METHODS: dict[str, type[Method]] = {m.name: m for m in (Unadapted, AdaBN, Shot, Socket, Tgkt, Oracle)}


def build_method(cfg: MethodConfig, bn_policy: BnPolicy, *, bridge: bool = False) -> Method:
    """The method that the configuration names, or with ``bridge`` the one that trains its translator."""
    return (Tgmb if bridge else METHODS[cfg.name])(cfg, bn_policy)


def needs_pairs(cfg: MethodConfig) -> bool:
    """Whether a job looks at TI pairs at all: with weight 0 it runs at a site that has none."""
    return METHODS[cfg.name].needs_pairs(cfg)


__all__ = ["METHODS", "Method", "build_method", "needs_pairs"]
