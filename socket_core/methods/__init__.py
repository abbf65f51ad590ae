"""The methods by name."""

from __future__ import annotations

from typing import TypeVar

from socket_core import own_names
from socket_core.config import BnPolicy, MethodConfig
from socket_core.errors import MethodError
from socket_core.methods.adabn import AdaBN
from socket_core.methods.base import Method
from socket_core.methods.oracle import Oracle
from socket_core.methods.shot import Shot
from socket_core.methods.socket import Socket
from socket_core.methods.tgkt import Tgkt
from socket_core.methods.tgmb import Tgmb
from socket_core.methods.unadapted import Unadapted

METHODS: dict[str, type[Method]] = {m.name: m for m in (Unadapted, AdaBN, Shot, Socket, Tgkt, Oracle)}


_M = TypeVar("_M", bound=type[Method])


def register(method: _M) -> _M:
    """Makes a method of one's own known in this process, under its ``name``; serves as a decorator.

    ``method.name`` of an experiment and a site's policy may then name it. It cannot be trained under DP: no DP step
    accounts for it. For federations over Flower see ``docs/add-a-method.md``.

    Raises:
        MethodError: If the name is no plain word, or that of a method of the product.
    """
    if wrong := own_names.add(getattr(method, "name", None), method, METHODS, own_names.METHODS):
        raise MethodError(wrong, where=f"{method.__name__}.name", remedy="give the method a name of its own")
    return method


def build_method(cfg: MethodConfig, bn_policy: BnPolicy, *, bridge: bool = False) -> Method:
    """The method that the configuration names, or with ``bridge`` the one that trains its translator."""
    return (Tgmb if bridge else METHODS[cfg.name])(cfg, bn_policy)


def needs_pairs(cfg: MethodConfig) -> bool:
    """Whether a job looks at TI pairs at all: with weight 0 it runs at a site that has none."""
    return METHODS[cfg.name].needs_pairs(cfg)


__all__ = ["METHODS", "Method", "build_method", "needs_pairs", "register"]
