"""What each site of a simulated comparison ends with, and which classes it holds."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from socket_core.data.types import Index
from socket_core.evaluation import Confusion, scores


@dataclass(frozen=True)
class AtSite:
    """One site of a row that has a model for each site.

    Attributes:
        site: Its stable name.
        accuracy: Of its model on the common held-out target set.
        transductive: Of its model on its own task-relevant images; None where it sent no counts of them.
        images: Its task-relevant images by true class, ``(K,)``. Known in simulation alone, and used for reports alone.
        predicted: Held-out images by the class that its model predicts, ``(K,)``.

    Raises:
        ValueError: If the counts are of different numbers of classes, or below 0.
    """

    site: str
    accuracy: float
    transductive: float | None
    images: tuple[int, ...]
    predicted: tuple[int, ...]

    def __post_init__(self) -> None:
        if len(self.images) != len(self.predicted):
            raise ValueError(
                f"site {self.site}: images of {len(self.images)} classes, predictions of {len(self.predicted)}"
            )
        if min((*self.images, *self.predicted), default=0) < 0:
            raise ValueError(f"site {self.site}: expected counts from 0, found {min(*self.images, *self.predicted)}")


def class_counts(labels: Index, classes: int) -> tuple[int, ...]:
    """How many of ``labels``, ``(N,)``, are of each of K classes, ``(K,)``."""
    return tuple(int(count) for count in np.bincount(labels, minlength=classes))


def at_site(site: str, held_out: Confusion, transductive: Confusion | None, images: tuple[int, ...]) -> AtSite:
    """One site from its counts, ``(K, K)``, true class by predicted, and its images by class."""
    return AtSite(
        site=site,
        accuracy=scores(held_out).accuracy,
        transductive=scores(transductive).accuracy if transductive is not None else None,
        images=images,
        predicted=tuple(int(count) for count in held_out.sum(0)),
    )
