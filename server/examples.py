"""A few held-out images, chosen by a rule that knows no result, and what each model says of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from socket_core.data.loader import Loader, Preprocessing
from socket_core.data.types import Images, Index, TransferTask
from socket_core.evaluation import device_of, predict_logits
from socket_core.models import Model

MOST = 8
RULE = f"the first held-out image of each class, of the first {MOST} classes that have one"
DECIMALS = 4


@dataclass(frozen=True)
class Said:
    """What one model of a row says of the example images.

    Attributes:
        site: Whose model; empty where there is one for all.
        predicted: Class of each image, ``(E,)``.
        probability: That the model gives to this class, ``(E,)``.

    Raises:
        ValueError: If there are not as many probabilities as classes, or one is no probability.
    """

    site: str
    predicted: tuple[int, ...]
    probability: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.predicted) != len(self.probability):
            raise ValueError(f"{len(self.predicted)} predictions, {len(self.probability)} probabilities")
        if not all(0 <= p <= 1 for p in self.probability):
            raise ValueError(f"expected probabilities from 0 to 1, found {self.probability}")


def chosen(labels: Index, classes: int) -> Index:
    """Positions of the examples in a held-out set, ``(E,)``, by :data:`RULE`.

    Args:
        labels: Of the held-out set, ``(N,)``.
        classes: K.
    """
    first = [int(np.flatnonzero(labels == k)[0]) for k in range(classes) if (labels == k).any()]
    return np.array(first[:MOST], dtype=np.int64)


def example_images(task: TransferTask) -> Images:
    """The E examples of a task, target images of its held-out set."""
    return task.target_test.images.take(chosen(task.target_test.labels, len(task.classes)))


def said_by(network: Model, images: Images, prep: Preprocessing, site: str = "") -> Said:
    """What ``network`` says of E images, in eval mode: an image's answer does not depend on the others."""
    probabilities = predict_logits(network, Loader(images, prep, device_of(network))).softmax(1)
    best = probabilities.max(1)
    return Said(
        site,
        tuple(int(k) for k in best.indices),
        tuple(round(float(p), DECIMALS) for p in best.values),
    )
