"""Fixtures shared by the tests of this folder."""

from tests.core.release_builders import folder, good, network

__all__ = ["folder", "good", "network"]
