"""An adapted network in its file, and raw images of its sensor."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from socket_core.ensemble import Ensemble
from socket_core.export.card import Adapted, Card, Part, Preparation, read_adapted, write_adapted
from socket_core.models import Model
from tests.core.builders import CLASSES, SIDE, tiny_network
from tests.core.disk_builders import rotated

RAW = (30, 44)
"""Height and width of raw images; odd factors on both sides."""
CLOSE = 5e-5
"""Logits that differ by less are the same: float32 sums, taken in another order for each number of threads."""
CLASS_NAMES = ("chair", "table", "lämp")


def preparation(**changes: Any) -> Preparation:
    """16-bit depth up to 10 m, normalised with three different channels."""
    values: dict[str, Any] = {
        "modality": "depth",
        "bits": 16,
        "rotated": False,
        "raw": RAW,
        "size": SIDE,
        "full_scale": 10_000.0,
        "mean": (0.485, 0.456, 0.4),
        "std": (0.229, 0.25, 0.3),
    }
    return Preparation(**values | changes)


def card(sources: int = 1, **changes: Any) -> Card:
    """A card of one tiny network, or several."""
    parts = tuple(Part(backbone="tiny", bottleneck_dim=8, release=str(i) * 64) for i in range(sources))
    return Card(
        site="north", experiment="e", method="shot", classes=CLASS_NAMES, networks=parts,
        preparation=preparation(**changes),
    )  # fmt: skip


def model(sources: int = 1) -> Model:
    """One tiny network away from its initial state, or several unequally mixed."""
    assert len(CLASS_NAMES) == CLASSES
    if sources == 1:
        return tiny_network().eval()
    mixed = Ensemble([tiny_network(seed=i) for i in range(sources)])
    mixed.mixing.data[0] = 1.5
    return mixed.eval()


def adapted(folder: Path, sources: int = 1, **changes: Any) -> tuple[Path, Adapted]:
    """The file of an adapted network, and what is read from it."""
    path = folder / "adapted.safetensors"
    write_adapted(path, model(sources).state_dict(), card(sources, **changes))
    return path, read_adapted(path)


def raw_images(folder: Path, count: int = 3, **changes: Any) -> list[Path]:
    """Raw images with near and far patches, and holes; for the same changes as :func:`preparation`."""
    prep, rng = preparation(**changes), np.random.default_rng(7)
    size = prep.raw or RAW
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for index in range(count):
        coarse = rng.random((-(-size[0] // 5), -(-size[1] // 5))).repeat(5, 0).repeat(5, 1)[: size[0], : size[1]]
        top = 9000 if prep.bits == 16 else 255
        values = (top * (0.8 * coarse + 0.2 * rng.random(size))).astype(np.uint16)
        values[rng.random(size) < 0.2] = 0
        values = rotated(values) if prep.rotated else values
        paths.append(folder / f"{index}.png")
        Image.fromarray(values if prep.bits == 16 else values.astype(np.uint8)).save(paths[-1])
    return paths
