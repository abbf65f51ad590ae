"""The source model as it is: the first row of every table."""

from __future__ import annotations

from socket_core.methods.base import Method


class Unadapted(Method):
    """Changes nothing."""

    name = "unadapted"
    several_sources = True
