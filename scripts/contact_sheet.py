"""Draws a contact sheet of the embedded scenes: a few examples a class as RGB, depth and near-infrared.

Usage: ``python scripts/contact_sheet.py [--out docs/img/contact_sheet.png]``
"""

from __future__ import annotations

import argparse
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
from numpy.typing import NDArray

from server.image_colours import depth_colours
from socket_core.data.scenes import CLASSES, TASK_RELEVANT, Rendered, render

SENSORS = ("RGB", "depth", "NIR")


def _tiles(images: Rendered, index: int) -> list[NDArray[np.uint8]]:
    """The three images of one scene as RGB bytes."""
    return [images.rgb[index], depth_colours(images.depth[index]), np.stack([images.nir[index]] * 3, -1)]


def contact_sheet(out: Path, *, examples: int = 2, size: int = 48, seed: int = 31, columns: int = 2) -> None:
    """Writes the sheet to ``out``, ``examples`` scenes a class."""
    labels = np.repeat(np.arange(len(CLASSES), dtype=np.int64), examples)
    images = render(labels, size=size, seed=seed)
    rows = -(-len(CLASSES) // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(3.85 * columns, 0.76 * rows), dpi=100, layout="constrained")
    for k, axis in enumerate(axes.T.flat):
        axis.axis("off")
        if k >= len(CLASSES):
            continue
        strip = [tile for i in range(examples) for tile in _tiles(images, k * examples + i)]
        axis.imshow(np.concatenate(strip, axis=1), interpolation="nearest")
        colour = "black" if CLASSES[k] in TASK_RELEVANT else "tab:blue"
        axis.text(-6, size / 2, CLASSES[k], ha="right", va="center", fontsize=9, color=colour)
    figure.suptitle(f"{examples} scenes a class, each as {' | '.join(SENSORS)}; blue: task-irrelevant", fontsize=9)
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out, pil_kwargs={"optimize": True})
    plt.close(figure)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("docs/img/contact_sheet.png"))
    args = parser.parse_args()
    contact_sheet(args.out)
    print(f"wrote {args.out} ({args.out.stat().st_size // 1024} kB)")


if __name__ == "__main__":
    main()
