"""Images of any modality as RGB bytes, to be looked at."""

from __future__ import annotations

from typing import Any

import matplotlib as mpl
import numpy as np
from numpy.typing import NDArray

from socket_core.data.types import Images

Pixels = NDArray[np.uint8]
"""``(H, W, 3)``."""


def as_rgb(images: Images, index: int) -> Pixels:
    """One image: RGB as it is, 16-bit depth in colours, one 8-bit channel in grey."""
    pixels = images.pixels[index]
    if pixels.dtype == np.uint16:
        return depth_colours(pixels)
    return pixels.astype(np.uint8) if pixels.ndim == 3 else np.stack([pixels] * 3, -1).astype(np.uint8)


def depth_colours(depth: NDArray[np.integer[Any]]) -> Pixels:
    """Depth ``(H, W)`` as RGB bytes: yellow is near and violet far, black unknown.

    The colours are viridis, whose lightness grows all the way: they are told apart without colour vision too.
    """
    values = depth.astype(np.float64)
    known = values > 0
    out = np.zeros((*depth.shape, 3), dtype=np.uint8)
    if known.any():
        # Inverse depth spreads what is near, where the solid is.
        low, high = np.percentile(1 / values[known], [2, 98])
        near = (1 / values[known] - low) / max(high - low, 1e-9)
        out[known] = (255 * mpl.colormaps["viridis"](np.clip(near, 0, 1))[..., :3]).astype(np.uint8)
    return out
