"""Fixtures shared by the tests of this folder."""

from tests.server.builders import world

__all__ = ["world"]
