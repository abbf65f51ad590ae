"""One graph from the sensor's raw image to logits: decoding's arithmetic, scaling, normalisation, network.

Resizing is what :func:`socket_core.data.decode.resize` does, written as two matrix products: Pillow's filters are
linear and separable. Products are taken in float64 and stored in float32 after each pass, in the order that Pillow
takes them, so that rounding to whole pixel values falls the same way.
"""

from __future__ import annotations

import copy

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from socket_core.export.card import Preparation, plain
from socket_core.models import Model


def resampling(length: int, size: int, kind: str) -> NDArray[np.float64]:
    """Pillow's filter along one axis: ``(size, length)``, rows sum to 1.

    Args:
        length: Pixels before.
        size: Pixels after.
        kind: ``box`` or ``bilinear``, both widened by the reduction so that every pixel before counts.
    """
    scale = length / size
    wide = max(scale, 1.0)
    reach = wide * {"box": 0.5, "bilinear": 1.0}[kind]
    rows = np.zeros((size, length))
    for row, weights in enumerate(rows):
        centre = (row + 0.5) * scale
        low, high = max(int(centre - reach + 0.5), 0), min(int(centre + reach + 0.5), length)
        at = (np.arange(low, high) - centre + 0.5) * (1.0 / wide)  # as Pillow does, to the last bit
        weights[low:high] = ((at > -0.5) & (at <= 0.5)) if kind == "box" else np.clip(1.0 - np.abs(at), 0.0, None)
        weights /= np.cumsum(weights)[-1]  # one after the other, unlike sum()
    return rows


def rows_first(raw: tuple[int, int], size: int, kind: str) -> bool:
    """Whether Pillow reduces the height before the width: for tall images, by a rule of its version. So it is asked."""
    how = {"box": Image.Resampling.BOX, "bilinear": Image.Resampling.BILINEAR}[kind]
    height, width = raw
    plane = Image.fromarray(np.random.default_rng(0).random(raw, dtype=np.float32))
    whole, down = (np.asarray(plane.resize(to, how)) for to in ((size, size), (width, size)))
    across = np.asarray(plane.resize((size, height), how).resize((size, size), how))
    both = np.asarray(Image.fromarray(down).resize((size, size), how))
    return int((whole != both).sum()) < int((whole != across).sum())


class Graph(nn.Module):
    """Raw image ``(H, W)``, uint8 or uint16, to logits ``(K,)`` float32.

    Args:
        network: The adapted network; it is copied.
        prep: How its images are prepared.
        raw: Height and width of raw images; the graph is for this size alone.
    """

    def __init__(self, network: Model, prep: Preparation, raw: tuple[int, int]) -> None:
        super().__init__()
        self.network = plain(copy.deepcopy(network)).requires_grad_(False)
        self._holes, self._rotated, self._top = prep.modality == "depth", prep.rotated, float(2**prep.bits - 1)
        self._resized = raw != (prep.size, prep.size)
        if self._resized:
            kind = "box" if self._holes else "bilinear"
            self._rows_first = rows_first(raw, prep.size, kind)
            rows, columns = (resampling(length, prep.size, kind) for length in raw)
            self.register_buffer("rows", torch.from_numpy(rows))
            self.register_buffer("columns", torch.from_numpy(np.ascontiguousarray(columns.T)))
        self.register_buffer("full_scale", torch.tensor(prep.full_scale, dtype=torch.float32))
        self.register_buffer("mean", torch.tensor(prep.mean, dtype=torch.float32).view(3, 1, 1))
        self.register_buffer("std", torch.tensor(prep.std, dtype=torch.float32).view(3, 1, 1))
        self.eval()

    def forward(self, raw: Tensor) -> Tensor:
        """Class logits, ``(K,)``."""
        values = raw.to(torch.float64)
        if self._rotated:  # 16 bits turned right by three places
            high = torch.floor(values / 8)
            values = high + (values - 8 * high) * 8192
        plane = values.to(torch.float32)
        if self._resized:
            plane = self._resize(plane)
        scaled = torch.clamp(plane / self.get_buffer("full_scale"), 0.0, 1.0)
        inputs = (scaled.unsqueeze(0) - self.get_buffer("mean")) / self.get_buffer("std")
        out: Tensor = self.network(inputs.unsqueeze(0))[0]
        return out

    def _resize(self, plane: Tensor) -> Tensor:
        """Whole pixel values ``(size, size)`` from ``(H, W)``; depth leaves holes (0) out of its means."""
        result = self._scaled(plane)
        if self._holes:
            weight = self._scaled((plane > 0).to(torch.float32))
            valid = weight >= 0.5 - 1e-4
            result = torch.where(valid, result / torch.where(valid, weight, 1.0), 0.0)
        return torch.clamp(torch.round(result), 0.0, self._top)

    def _scaled(self, plane: Tensor) -> Tensor:
        rows, columns = self.get_buffer("rows"), self.get_buffer("columns")
        once = rows @ plane.to(torch.float64) if self._rows_first else plane.to(torch.float64) @ columns
        kept = once.to(torch.float32).to(torch.float64)
        return (kept @ columns if self._rows_first else rows @ kept).to(torch.float32)
