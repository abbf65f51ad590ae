"""Pictures of a comparison: accuracy against rounds, and a strip of example images."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import cycle
from pathlib import Path
from typing import cast

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.ticker import MaxNLocator

from server.examples import chosen
from server.report import padded_curves
from server.results import Row
from socket_core.data.types import TransferTask

# Okabe and Ito's palette: told apart by colour-blind readers; methods also differ in marker.
COLOURS = {"adabn": "#E69F00", "shot": "#56B4E9", "socket": "#009E73", "oracle": "#000000"}
MARKERS = {"adabn": "s", "shot": "^", "socket": "o", "oracle": "D"}
FURTHER_COLOURS = ("#D55E00", "#0072B2", "#CC79A7", "#F0E442")
FURTHER_MARKERS = ("v", "P", "X", "<", ">", "*", "p")
"""For variants, in turn; their numbers have no common factor, so that pairs repeat late."""
STYLES = {"federated": "-", "centralised": "--", "local": ":"}
LEGEND_LINE = 0.18
"""Inches of a line of the legend, with those around it."""


def draw(path: Path, rows: Sequence[Row], task: TransferTask, modality: str) -> None:
    """Writes one PNG: curves above, examples RGB and target below.

    Args:
        path: The file.
        rows: Rows of all seeds; curves are means over them.
        task: For the example images (held-out ones, one of each class).
        modality: Name of the target modality.
    """
    # Not pyplot: no display, no global state. The legend of a large grid decides how high the curves are.
    above, below = max(5.1, LEGEND_LINE * len({(r.label, r.mode) for r in rows})), 2.1
    figure = Figure(figsize=(10, above + below), layout="constrained")
    parts = cast(Sequence[SubFigure], figure.subfigures(2, 1, height_ratios=(above, below)))
    _curves(parts[0].subplots(), rows, modality)
    _strip(parts[1], task, modality)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


def _curves(axes: Axes, rows: Sequence[Row], modality: str) -> None:
    looks = _looks(dict.fromkeys(r.label for r in rows))
    for label, mode in dict.fromkeys((r.label, r.mode) for r in rows):
        curves = np.array(padded_curves([r for r in rows if (r.label, r.mode) == (label, mode)])) * 100
        colour, marker = looks[label]
        if mode == "unadapted":
            axes.axhline(curves.mean(), color="#999999", label=label)
        elif curves.shape[1] == 2:  # a method of one round: a level, not a curve
            axes.axhline(curves[:, 1].mean(), color=colour, linestyle=STYLES[mode], label=f"{label}, {mode}")
        else:
            mean = curves.mean(0)
            axes.plot(mean, STYLES[mode], color=colour, marker=marker, label=f"{label}, {mode}")
            if len(curves) > 1:
                low, high = curves.min(0), curves.max(0)
                axes.fill_between(range(len(mean)), low, high, color=colour, alpha=0.12)
    seeds = len({r.seed for r in rows})
    over = f"mean and range of {seeds} seeds" if seeds > 1 else "one seed"
    axes.set_title(f"RGB to {modality}: accuracy on held-out {modality} images, {over}")
    axes.set_xlabel("round (centralised: as many steps as all sites together)")
    axes.set_ylabel("accuracy, %")
    axes.set_ylim(0, 100)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8, loc="upper left", bbox_to_anchor=(1.01, 1))


def _looks(labels: Iterable[str]) -> dict[str, tuple[str, str]]:
    """Colour and marker of each label: those of a method always, of a variant by its place."""
    further = zip(cycle(FURTHER_COLOURS), cycle(FURTHER_MARKERS), strict=False)
    return {x: (COLOURS[x], MARKERS[x]) if x in COLOURS else next(further) for x in labels}


def _strip(figure: SubFigure, task: TransferTask, modality: str) -> None:
    labels = task.target_test.labels
    shown = chosen(labels, len(task.classes))
    axes = figure.subplots(2, max(2, len(shown)), squeeze=False)
    for ax in axes.flat:
        ax.set_axis_off()
    source = task.source_test
    for column, i in enumerate(shown):
        same_class = int(np.flatnonzero(source.labels == labels[i])[0])
        axes[0, column].imshow(source.images.pixels[same_class])
        axes[0, column].set_title(task.classes[labels[i]], fontsize=8)
        axes[1, column].imshow(task.target_test.images.pixels[i].astype(float), cmap="viridis")
    figure.suptitle(f"above: the owner's RGB, below: {modality} of the same classes at the sites", fontsize=9)
