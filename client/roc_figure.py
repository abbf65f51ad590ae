"""ROC curves as a picture: few false alarms are what counts, so both axes are logarithmic."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure  # not pyplot: no display, no global state

from socket_core.privacy.membership import most_tpr

# Okabe and Ito's palette, told apart by colour-blind readers; curves also differ in dashes.
LOOKS = (("#D55E00", "-"), ("#0072B2", (0, (5, 2))), ("#009E73", "-."), ("#CC79A7", ":"))
TITLES = {"TR": "task-relevant images: no DP", "TI": "task-irrelevant pairs"}


@dataclass(frozen=True)
class Curve:
    """One ROC: what the legend calls it, and its points."""

    label: str
    fpr: Sequence[float]
    tpr: Sequence[float]


def curve_of(attack: Mapping[str, Any], label: str) -> Curve:
    """The curve of one entry of ``attacks``, with its area and interval in the legend."""
    area = f"AUC {attack['auc']:.2f} [{attack['auc_low']:.2f}, {attack['auc_high']:.2f}]"
    return Curve(f"{label}: {area}", attack["fpr"], attack["tpr"])


def draw_found(path: Path, found: Mapping[str, Any]) -> None:
    """Writes the picture of one attack: both scores over all updates, a panel for each kind.

    Args:
        path: A PNG file.
        found: From :func:`client.attack_report.attack_site`.
    """
    panels: dict[str, list[Curve]] = {}
    for one in found["attacks"]:
        if one["view"] == "all":
            panels.setdefault(TITLES[one["kind"]], []).append(curve_of(one, one["score"].replace("_", " ")))
    spent = found["epsilon"]
    draw(path, panels, {TITLES["TI"]: (spent["claim"], spent["delta"])} if spent is not None else {})


def draw(path: Path, panels: Mapping[str, Sequence[Curve]], bounds: Mapping[str, tuple[float, float]]) -> None:
    """Writes one PNG.

    Args:
        path: The file.
        panels: Curves by title, side by side.
        bounds: Epsilon and delta that no curve may be above in expectation, by title.
    """
    figure = Figure(figsize=(5.2 * len(panels), 4.6), layout="constrained")
    for axes, (title, curves) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels.items(), strict=True):
        _panel(axes, curves, bounds.get(title))
        axes.set_title(title, fontsize=10)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110, metadata={"Software": None})


def _panel(axes: Axes, curves: Sequence[Curve], bound: tuple[float, float] | None) -> None:
    # A logarithmic axis has no 0: it ends at half of the smallest step of any curve.
    steps = [float(min(v for v in values if v > 0)) for c in curves for values in (c.fpr, c.tpr)]
    least = min(steps) / 2
    line = np.geomspace(least, 1, 200)
    axes.plot(line, line, color="0.6", linewidth=1, label="guessing")
    if bound is not None:
        epsilon, delta = bound
        allowed = [most_tpr(float(fpr), epsilon, delta) for fpr in line]
        axes.plot(
            line, allowed, color="black", linewidth=1, linestyle=(0, (1, 1)), label=f"most at epsilon {epsilon:.2f}"
        )
    for curve, (colour, dashes) in zip(curves, cycle(LOOKS)):
        found = [np.clip(values, least, 1) for values in (curve.fpr, curve.tpr)]
        axes.plot(*found, color=colour, linestyle=dashes, linewidth=1.8, drawstyle="steps-post", label=curve.label)
    axes.set(xscale="log", yscale="log", xlim=(least, 1), ylim=(least, 1.05))
    axes.set(xlabel="others taken for members (FPR)", ylabel="members found (TPR)")
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right", fontsize=7.5)
