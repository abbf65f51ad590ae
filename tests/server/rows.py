"""Rows of a comparison, made up."""

from __future__ import annotations

from typing import Any

from server.results import Mode, Row


def row(method: str, mode: Mode = "federated", seed: int = 0, accuracy: float = 0.5, **rest: Any) -> Row:
    """A row with the figures that a test does not look at."""
    return Row(
        method=method,
        mode=mode,
        seed=seed,
        accuracy=accuracy,
        worst_site=accuracy,
        transductive=accuracy,
        macro_f1=accuracy,
        **{"classes_predicted": 2, "collapsed": False} | rest,
        curve=(0.1, 0.2, accuracy),
        confusion=((1, 1), (1, 1)),
    )
