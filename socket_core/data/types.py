"""What image data looks like everywhere in the product.

Pixels stay integers, as decoded, until a batch is made: 8-bit colour and infrared, 8- or
16-bit depth. A 16-bit depth map is never squeezed through 8 bits. Labels of target images
live in their own object, so that an adaptation loop cannot see them by accident.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from socket_core.errors import DataError

Modality = Literal["rgb", "depth", "nir"]
Index = NDArray[np.int64]


@dataclass(frozen=True)
class Images:
    """N images of one modality and size.

    Attributes:
        pixels: ``(N, H, W, 3)`` uint8 for RGB; ``(N, H, W)`` uint8 or uint16 otherwise.
        full_scale: The pixel value that becomes 1.0: 255 for 8-bit images, a constant of
            the sensor for 16-bit depth (for example 10000 for millimetres up to 10 m).
    """

    pixels: NDArray[np.uint8] | NDArray[np.uint16]
    full_scale: float

    def __post_init__(self) -> None:
        shape, kind = self.pixels.shape, self.pixels.dtype
        colour = len(shape) == 4 and shape[3] == 3 and kind == np.uint8
        single = len(shape) == 3 and kind in (np.uint8, np.uint16)
        if not (colour or single):
            raise DataError(
                f"expected uint8 (N, H, W, 3) or uint8/uint16 (N, H, W), found {kind} {shape}",
                remedy="decode colour to 8-bit RGB and depth or infrared to one channel",
            )

    def __len__(self) -> int:
        return len(self.pixels)

    def take(self, index: Index) -> Images:
        """The images at ``index`` (any order, repeats allowed)."""
        return Images(self.pixels[index], self.full_scale)


@dataclass(frozen=True)
class Labelled:
    """Images with class indices, ``labels[i]`` in ``0..K-1``, shape ``(N,)`` int64."""

    images: Images
    labels: Index

    def __post_init__(self) -> None:
        if len(self.images) != len(self.labels):
            raise DataError(f"{len(self.images)} images but {len(self.labels)} labels")

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, index: Index) -> Labelled:
        """The labelled images at ``index``."""
        return Labelled(self.images.take(index), self.labels[index])


@dataclass(frozen=True)
class Pairs:
    """Task-irrelevant pairs: ``rgb[i]`` and ``target[i]`` show the same view, unlabelled."""

    rgb: Images
    target: Images

    def __post_init__(self) -> None:
        if self.rgb.pixels.shape[:3] != self.target.pixels.shape[:3]:
            raise DataError(
                f"the halves of the pairs differ: RGB {self.rgb.pixels.shape[:3]}, "
                f"target {self.target.pixels.shape[:3]}",
                remedy="give every RGB image exactly one target image of the same size",
            )

    def __len__(self) -> int:
        return len(self.rgb)

    def take(self, index: Index) -> Pairs:
        """The pairs at ``index``; both halves move together."""
        return Pairs(self.rgb.take(index), self.target.take(index))


@dataclass(frozen=True)
class SiteData:
    """All that adaptation may see at a site: no label, no task-relevant RGB image."""

    tr: Images
    ti: Pairs


@dataclass(frozen=True)
class Sensors:
    """Which sensor took each of a task's target images.

    Attributes:
        names: Names of the sensors: first those that have task-relevant images, then the others, each sorted.
        target_train: ``(N,)`` positions in ``names``.
        ti: ``(M,)`` positions in ``names``.
    """

    names: tuple[str, ...]
    target_train: Index
    ti: Index


@dataclass(frozen=True)
class TransferTask:
    """One experiment's data before it is split: the owner's part and the sites' part.

    Attributes:
        classes: Names of the K task-relevant classes, in label order.
        source_train: The owner's private labelled RGB images.
        source_test: RGB images held out from source training (reported, never selected on).
        target_train: Task-relevant target images. Their labels serve to simulate skewed
            sites and to report; no method but ``oracle`` receives them.
        target_test: The common held-out target set that reports are made on.
        ti: Task-irrelevant pairs, of classes outside ``classes``.
        sensors: Who took the sites' images, where the data set tells it.
        partners: For each held-out target image the position in ``source_test`` of the RGB image of the same view,
            -1 without one, ``(N,)``; None where the data do not tell. For pictures in reports: no method receives it.
    """

    classes: tuple[str, ...]
    source_train: Labelled
    source_test: Labelled
    target_train: Labelled
    target_test: Labelled
    ti: Pairs
    sensors: Sensors | None = None
    partners: Index | None = None
