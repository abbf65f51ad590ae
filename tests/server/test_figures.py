"""The picture of a comparison."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from matplotlib.figure import Figure

from server.figures import _curves
from tests.server.rows import row


def test_seeds_that_ended_at_different_rounds_are_drawn_together() -> None:
    long = row("socket", seed=0)
    short = replace(row("socket", seed=1), curve=(0.1, 0.4))
    axes = Figure().subplots()
    _curves(axes, [long, short], "depth")
    (line,) = axes.get_lines()
    assert np.allclose(line.get_ydata(), [10, 30, 45])
