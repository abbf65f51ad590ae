"""Reading a network: predictions, confusion counts, accuracy, and whether it has collapsed.

Confusion counts of several sites add up exactly, so nothing but counts is needed for federated accuracy.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from socket_core.data.loader import Loader, Preprocessing
from socket_core.data.types import Images, Index, Labelled
from socket_core.models import Model
from socket_core.reading import read

Confusion = NDArray[np.int64]
"""``(K, K)`` counts, true class by predicted class."""


@torch.no_grad()
def predict_logits(network: Model, loader: Loader) -> Tensor:
    """Logits of all images in eval mode, ``(N, K)`` on the CPU."""
    return read(network, loader).logits.cpu()


def device_of(network: Model) -> torch.device:
    """Where the network is."""
    return next(network.parameters()).device


@torch.no_grad()
def predict(network: Model, loader: Loader) -> Index:
    """Predicted classes of all images, ``(N,)``, in eval mode."""
    return predict_logits(network, loader).argmax(1).numpy() if len(loader) else np.zeros(0, dtype=np.int64)


def confusion(labels: Index, predictions: Index, classes: int) -> Confusion:
    """Confusion counts; raises ValueError if a label or prediction is outside ``0..classes-1``."""
    both = np.concatenate([labels, predictions])
    if len(both) and (both.min() < 0 or both.max() >= classes):
        raise ValueError(f"labels and predictions must lie in 0..{classes - 1}, found {both.min()}..{both.max()}")
    return np.bincount(labels * classes + predictions, minlength=classes**2).reshape(classes, classes)


@torch.no_grad()
def evaluate(network: Model, data: Labelled, prep: Preprocessing, classes: int) -> Confusion:
    """Confusion counts of ``network`` on labelled images."""
    return confusion(data.labels, predict(network, Loader(data.images, prep, device_of(network))), classes)


def spread_of(network: Model, images: Images, prep: Preprocessing, classes: int) -> Scores:
    """The collapse measure on unlabelled images; accuracy and F1 are NaN, since nobody knows."""
    predictions = predict(network, Loader(images, prep, device_of(network)))
    found = scores(confusion(predictions, predictions, classes))
    return replace(found, accuracy=math.nan, macro_f1=math.nan)


def collapse_warning(found: Scores, classes: int) -> str:
    """A sentence if the predictions hold to few classes, else an empty text."""
    if not found.collapsed:
        return ""
    return (
        f"collapse: {found.classes_predicted} of {classes} classes are predicted, entropy "
        f"{found.prediction_entropy:.2f} of 1; where the site really has few classes this is right, "
        "else distrust the result"
    )


@dataclass(frozen=True)
class Scores:
    """What confusion counts say.

    Attributes:
        accuracy: Share of images classified correctly; NaN if there were none.
        macro_f1: Mean over classes of the F1 score; a class never seen nor predicted counts 0.
        classes_predicted: Number of classes predicted at least once.
        prediction_entropy: Entropy of the predicted classes over log K: 1 is even, 0 is a single class.
    """

    accuracy: float
    macro_f1: float
    classes_predicted: int
    prediction_entropy: float

    @property
    def collapsed(self) -> bool:
        """Whether the predictions hold to few classes: entropy below 0.5 of the possible."""
        return self.prediction_entropy < 0.5


def scores(counts: Confusion) -> Scores:
    """Accuracy, macro F1 and the collapse measure of confusion counts ``(K, K)``."""
    total, correct = int(counts.sum()), np.diag(counts).astype(float)
    if total == 0:
        return Scores(math.nan, math.nan, 0, 0.0)
    predicted, true = counts.sum(0), counts.sum(1)
    f1 = np.divide(2 * correct, predicted + true, out=np.zeros_like(correct), where=(predicted + true) > 0)
    share = predicted[predicted > 0] / total
    entropy = float(-(share * np.log(share)).sum() / math.log(len(counts))) if len(counts) > 1 else 1.0
    return Scores(float(correct.sum() / total), float(f1.mean()), int((predicted > 0).sum()), max(0.0, entropy))
