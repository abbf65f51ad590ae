"""From integer pixels to normalised batches on a device, with reproducible draws."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from socket_core.config import DataConfig
from socket_core.data.augment import Draw, affine, apply, normalise, shift_flip
from socket_core.data.types import Images, Index, Modality


@dataclass(frozen=True)
class Preprocessing:
    """What happens to every image of one modality, in training and in use.

    Attributes:
        mean: Subtracted per channel from values in 0..1.
        std: Divided by per channel.
        pad: Largest random shift in pixels (training only).
        flip: Random horizontal flips (training only).
    """

    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    pad: int
    flip: bool

    @classmethod
    def of(cls, cfg: DataConfig, modality: Modality | None = None) -> Preprocessing:
        """The preprocessing that a configuration describes.

        Args:
            cfg: The ``data`` section.
            modality: ``"rgb"`` for source images and the RGB halves of pairs; by default target images, which
                are normalised as RGB is unless ``target_mean`` or ``target_std`` says otherwise.
        """
        rgb = modality == "rgb"
        mean = cfg.mean if rgb or cfg.target_mean is None else cfg.target_mean
        std = cfg.std if rgb or cfg.target_std is None else cfg.target_std
        return cls(mean, std, cfg.pad, cfg.flip)


def upload(array: NDArray[Any], device: torch.device) -> Tensor:
    """A fresh array as a tensor on the device; the host does not wait for the copy.

    From ordinary memory it would have to: a GPU reads on its own only from pages that cannot be moved.
    """
    tensor = torch.from_numpy(array)
    if device.type == "cuda":
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)


class Loader:
    """Batches of one image set.

    Args:
        images: The images.
        prep: Normalisation and the range of random draws.
        device: Where batches go.
    """

    def __init__(self, images: Images, prep: Preprocessing, device: torch.device) -> None:
        self.images, self.prep, self.device = images, prep, device
        slope, offset = affine(images.full_scale, prep.mean, prep.std)
        self._slope, self._offset = slope.to(device), offset.to(device)

    def __len__(self) -> int:
        return len(self.images)

    def draw(self, rng: np.random.Generator, count: int) -> Draw:
        """One random shift and flip for each of ``count`` images; use it for both halves of pairs."""
        height, width = self.images.pixels.shape[1:3]
        return shift_flip(rng, count, height, width, self.prep.pad, self.prep.flip)

    def batch(self, index: Index, draw: Draw | None = None) -> Tensor:
        """Images at ``index`` as float32 ``(N, 3, H, W)``, channels last, shifted and flipped if ``draw`` is given.

        Integers travel to the device and become floats there: a quarter of the bytes for colour, a sixth for depth.
        """
        pixels = self.images.pixels[index]
        if draw is not None:
            pixels = apply(pixels, draw)
        return normalise(upload(pixels, self.device), self.images.full_scale, self._slope, self._offset)

    def chunks(self, size: int = 256, *, shuffled: bool = False) -> Iterator[Tensor]:
        """All images un-augmented in batches of nearly equal length of at most ``size``.

        In order, or in one shuffled order that depends on the number of images alone.
        """
        parts = max(1, -(-len(self) // size))
        order = np.random.default_rng(0).permutation(len(self)) if shuffled else np.arange(len(self))
        for index in np.array_split(order, parts):
            if len(index):
                yield self.batch(index)


class IndexStream:
    """An endless walk through shuffled epochs of ``0..n-1``; a batch may span two epochs.

    Args:
        n: Size of the set, at least 1.
        rng: Source of the shuffles.
    """

    def __init__(self, n: int, rng: np.random.Generator) -> None:
        self._n, self._rng = n, rng
        self._queue = np.zeros(0, dtype=np.int64)

    def take(self, count: int) -> Index:
        """The next ``count`` positions."""
        while len(self._queue) < count:
            self._queue = np.concatenate([self._queue, self._rng.permutation(self._n)])
        head, self._queue = self._queue[:count], self._queue[count:]
        return head
