"""``socket-site predict``: which classes an adapted network sees in images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from client.export import check_given
from socket_core.data.files_of import files_below
from socket_core.export.classifiers import Logits, open_classifier

TOP = 3
"""Classes shown for each image."""


def predict(model: Path, images: Sequence[Path], releases: Sequence[Path] = ()) -> list[dict[str, Any]]:
    """The most probable classes of each image, the first one first.

    Args:
        model: ``.safetensors``, ``.onnx`` or ``.pt2``.
        images: Image files, or folders of them, as the sensor stores them.
        releases: If given, what the network must have been adapted from.

    Returns:
        For each image ``file`` and ``top``: classes with their probability, which is the softmax of the logits and
        says how sure the network is, not how often it is right.

    Raises:
        ReleaseError: If the model is damaged, or adapted from other releases.
        DataError: If an image is not such as the model was made for.
    """
    classifier = open_classifier(model)
    check_given(classifier.card, releases, None, where=str(model))
    classes = classifier.card.classes
    out = []
    for path in files_below(images):
        shares = _softmax(classifier.logits(path))
        best = np.argsort(-shares, kind="stable")[:TOP]
        top = [{"class": classes[i], "probability": round(float(shares[i]), 4)} for i in best]
        out.append({"file": str(path), "top": top})
    return out


def lines(found: Sequence[dict[str, Any]]) -> list[str]:
    """The same as a table."""
    wide = max(len(Path(row["file"]).name) for row in found)
    word = max(len(entry["class"]) for row in found for entry in row["top"])
    return [
        f"{Path(row['file']).name:{wide}}  "
        + "  ".join(f"{entry['class']:{word}} {entry['probability']:6.1%}" for entry in row["top"])
        for row in found
    ]


def _softmax(logits: Logits) -> Logits:
    powers = np.exp(logits - logits.max())
    shares: Logits = powers / powers.sum()
    return shares
