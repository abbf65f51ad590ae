"""``socket-site export``: the adapted network for other programs, and the proof that they get the same answers."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from socket_core.config import load_experiment
from socket_core.data.decode import FARTHEST_MM, original_size
from socket_core.data.files_of import files_below
from socket_core.errors import DataError, MethodError
from socket_core.export.card import Card, Preparation, check_experiment, check_made_from, read_adapted
from socket_core.export.classifiers import InProduct, open_classifier
from socket_core.export.formats import writer_for
from socket_core.release import read_info

TOLERANCE = 1e-4
"""Largest difference of a logit that still counts as the same answer."""

SAMPLES = 8
"""Images of a folder that the answers are compared on, and made-up images where none are given."""


def export(
    adapted: Path, out: Path, *, releases: Sequence[Path] = (), config: Path | None = None, images: Sequence[Path] = ()
) -> dict[str, Any]:
    """Writes ``out`` and compares its answers with this product's own.

    Args:
        adapted: What ``socket-site adapt`` wrote.
        out: ``.safetensors``, ``.onnx`` or ``.pt2``.
        releases: If given, what the network must have been adapted from, in this order.
        config: If given, an experiment that must prepare images as the network needs them.
        images: The sensor's images to compare on, files or folders; by default made-up ones of the site's size.

    Returns:
        What was written and the largest difference of a logit.

    Raises:
        ConfigError: An unknown format, missing packages, or another experiment.
        ReleaseError: If the file cannot be used, or was adapted from other releases.
        DataError: If images differ in size, or none are given where the site's own did.
        MethodError: If the answers differ by more than :data:`TOLERANCE`; the file is removed then.
    """
    write = writer_for(out)
    network = read_adapted(adapted)
    check_given(network.card, releases, config, where=str(adapted))
    with tempfile.TemporaryDirectory() as folder:
        samples = _spread(files_below(images)) if images else _made_up(network.card.preparation, Path(folder))
        raw = _one_size(samples)
        write(network, raw, out)
        ours, theirs = InProduct(network), open_classifier(out)
        difference = max(float(np.abs(ours.logits(path) - theirs.logits(path)).max()) for path in samples)
    if not difference <= TOLERANCE:
        out.unlink()
        raise MethodError(
            f"its logits differ from this product's by up to {difference:.1e}, at most {TOLERANCE:g} was expected",
            where=str(out),
            remedy="report it with the versions that socket-site doctor prints; the file was removed",
        )
    return {
        "out": str(out),
        "bytes": out.stat().st_size,
        "input": f"{raw[0]} x {raw[1]} uint{network.card.preparation.bits}",
        "classes": list(network.card.classes),
        "compared_on": f"{len(samples)} {'images' if images else 'made-up images'}",
        "largest_difference": difference,
        "tolerance": TOLERANCE,
    }


def check_given(card: Card, releases: Sequence[Path], config: Path | None, *, where: str) -> None:
    """Refuses a network that does not belong to what was given along with it.

    Only manifests are read: the card's digests cover them, and they cover the weights.

    Raises:
        ReleaseError: If it was adapted from other releases.
        ConfigError: If it was adapted with another preparation of images.
    """
    if releases:
        check_made_from(card, [read_info(folder, None)[0] for folder in releases], where=where)
    if config is not None:
        check_experiment(card, load_experiment(config), where=str(config))


def _spread(files: Sequence[Path]) -> list[Path]:
    """At most :data:`SAMPLES` of them, from all parts of the list."""
    step = max(1, len(files) // SAMPLES)
    return list(files[::step][:SAMPLES])


def _one_size(files: Sequence[Path]) -> tuple[int, int]:
    sizes = {original_size(path) for path in files}
    if len(sizes) > 1:
        raise DataError(
            f"expected images of one size, found {', '.join(f'{w}x{h}' for w, h in sorted(sizes))}",
            where="--image",
            remedy="a graph is for one size: give images of one sensor mode",
        )
    width, height = sizes.pop()
    return height, width


def _made_up(prep: Preparation, folder: Path) -> list[Path]:
    """Images of the site's size that hold near and far, edges, and holes where the sensor has them."""
    if prep.raw is None:
        raise DataError(
            "the site's images differ in size, a graph is for one",
            where="--image",
            remedy="give --image with some images of the size that it is for",
        )
    (height, width), rng, paths = prep.raw, np.random.default_rng(0), []
    top = min(prep.full_scale, FARTHEST_MM if prep.rotated else 2.0**prep.bits - 1)
    for index in range(SAMPLES):
        coarse = rng.random((-(-height // 16), -(-width // 16))).repeat(16, 0).repeat(16, 1)[:height, :width]
        values = np.rint(top * (0.9 * coarse + 0.1 * rng.random((height, width)))).astype(np.uint32)
        if prep.modality == "depth":
            values[rng.random((height, width)) < 0.1] = 0
        if prep.rotated:
            values = ((values << 3 | values >> 13) & 0xFFFF).astype(np.uint32)
        paths.append(folder / f"{index}.png")
        Image.fromarray(values.astype(np.uint16 if prep.bits == 16 else np.uint8)).save(paths[-1])
    return paths
