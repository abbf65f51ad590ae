"""Three sensors that look at the same view: a colour camera, a depth camera and an active infrared camera.

They share geometry pixel by pixel and little else. Infrared reflectance is drawn apart from colour,
its light comes from the camera and falls off with distance; depth knows neither light nor material.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from socket_core.data.scenes_geometry import Floats, dot
from socket_core.data.scenes_layout import SURFACES, Layout
from socket_core.data.scenes_view import View

NORMALS = 5
"""Standard normal numbers a pixel: three for RGB, one for infrared, one for depth."""

NEAREST, FARTHEST = 0.4, 4.0
"""Working range of the depth camera in metres; 0 outside it."""

_BASELINE = 0.11
"""Metres between the depth camera and its projector: what only one of them sees has no depth."""

_DISPARITY_STEP = 0.0012
"""Resolution of inverse depth in 1/m, so that steps grow with the square of distance."""


def _texture(scene: Layout, view: View) -> tuple[Floats, NDArray[np.int64]]:
    """Mixing weight 0..1 of a surface's two reflectances ``(B, P)``, and its row in tables of surfaces."""
    batch = len(scene.scale)
    row = np.minimum(view.surface, SURFACES - 1) + SURFACES * np.arange(batch)[:, None]
    waves, phases = scene.waves.reshape(-1, 9), scene.phases.reshape(-1, 3)
    x, y, z = view.place
    s = []
    for k in range(3):
        w = waves[:, 3 * k : 3 * k + 3].T.copy()
        s.append(np.sin(w[0].take(row) * x + w[1].take(row) * y + w[2].take(row) * z + phases[:, k].take(row)))
    pattern = scene.pattern.reshape(-1).take(row)
    blotches = 0.6 * (s[0] + s[1] * s[2])
    value = np.where(pattern == 0, s[0], np.where(pattern == 1, 2 * s[0] * s[1], blotches))
    mix = 0.5 + 0.5 * np.clip(value * scene.sharp.reshape(-1).take(row), -1, 1)
    return mix.astype(np.float32), row


def _soften(image: Floats, size: int) -> Floats:
    """The lens: a 1-2-1 blur of ``(..., P)`` images, edges repeated."""
    picture = image.reshape(*image.shape[:-1], size, size)
    for axis in (-2, -1):
        head = np.take(picture, [0], axis)
        tail = np.take(picture, [-1], axis)
        wide = np.concatenate([head, picture, tail], axis)
        first, last = wide.take(range(size), axis), wide.take(range(2, size + 2), axis)
        picture = np.float32(0.25) * (first + last) + np.float32(0.5) * picture
    return picture.reshape(image.shape)


def _to_bytes(image: Floats) -> NDArray[np.uint8]:
    out: NDArray[np.uint8] = np.clip(image * 255 + 0.5, 0, 255).astype(np.uint8)
    return out


def colour(scene: Layout, view: View, noise: Floats, size: int) -> NDArray[np.uint8]:
    """An RGB photograph ``(B, S, S, 3)``; ``noise`` is standard normal, ``(B, 3, P)``."""
    mix, row = _texture(scene, view)
    light = scene.light.T[:, :, None]
    n = view.normal
    direct = np.maximum(dot(n, light), np.float32(0)) * view.lit
    # A highlight where the light, mirrored at the solid, comes straight at a camera on axis.
    forward = scene.camera[:, 2].T[:, :, None]
    half = light - forward
    along = dot(n, half) / np.sqrt(dot(half, half))
    shine = np.where(view.surface == 0, np.maximum(along, np.float32(0)), np.float32(0))
    for _ in range(4):
        shine = shine * shine
    shine = shine * view.lit * scene.gloss[:, None]
    # Light from above is stronger than light from below.
    sky = 0.8 + 0.2 * n[1]
    table = scene.colours.reshape(-1, 2, 3)
    out = np.empty((len(mix), 3, mix.shape[1]), np.float32)
    for c in range(3):
        first, second = table[:, 0, c], table[:, 1, c] - table[:, 0, c]
        albedo = first.take(row) + second.take(row) * mix
        glow = scene.ambient[:, c, None] * sky + scene.lamp[:, c, None] * direct
        out[:, c] = scene.gains[:, :1] * (albedo * glow + shine * scene.lamp[:, c, None])
    out = np.sqrt(_soften(out, size))  # gamma 2 in place of 2.2
    out += np.float32(0.012) * noise
    return np.ascontiguousarray(_to_bytes(out).reshape(-1, 3, size, size).transpose(0, 2, 3, 1))


def infrared(scene: Layout, view: View, noise: Floats, size: int) -> NDArray[np.uint8]:
    """Active near-infrared intensity ``(B, S, S)``; ``noise`` is standard normal, ``(B, P)``."""
    mix, row = _texture(scene, view)
    table = scene.infrared.reshape(-1, 2)
    albedo = table[:, 0].take(row) + (table[:, 1] - table[:, 0]).take(row) * mix
    way = view.z * view.stretch
    # The exposure is set for something at the distance of the solid; light falls off with the square.
    reach = np.sqrt((scene.eye * scene.eye).sum(1))[:, None]
    active = np.maximum(view.facing, np.float32(0)) * (reach / way) ** 2 / view.stretch**2
    bright = scene.gains[:, 1:2] * 0.85 * albedo * (active + scene.gains[:, 2:])
    bright = _soften(bright, size)
    return _to_bytes(bright + (0.012 + 0.02 * np.sqrt(bright)) * noise).reshape(-1, size, size)


def depth(scene: Layout, view: View, noise: Floats, chance: Floats, size: int) -> NDArray[np.uint16]:
    """A depth map ``(B, S, S)`` in millimetres, 0 where the camera knows nothing.

    Args:
        scene: B scenes.
        view: What they show.
        noise: Standard normal, ``(B, P)``.
        chance: Uniform in 0..1, ``(B, P)``: decides which doubtful pixels are lost.
        size: Pixels a side.
    """
    z = view.z
    focal = scene.focal[:, None] * size
    # In the projector's picture a pixel lies to the right by its disparity; what another pixel, left of it
    # here, has overtaken there is in that one's shadow.
    seen = np.tile(np.arange(size, dtype=np.float32), size) + focal * np.float32(_BASELINE) / z
    furthest = np.maximum.accumulate(seen.reshape(-1, size, size), axis=2).reshape(z.shape)
    shadow = seen < furthest - np.float32(0.5)
    # Grazing surfaces return little light, and so do distant ones.
    weak = np.float32(0.02) + np.maximum(np.float32(0), np.float32(0.35) - view.facing) * np.float32(2.0)
    noisy = z + noise * np.float32(0.0018) * z * z / np.maximum(view.facing, np.float32(0.3))
    inverse = np.round(1 / noisy / np.float32(_DISPARITY_STEP)) * np.float32(_DISPARITY_STEP)
    measured = 1 / inverse
    lost = shadow | (chance < weak) | (measured < NEAREST) | (measured > FARTHEST) | (view.surface == 255)
    return np.where(lost, 0, np.round(measured * 1000)).astype(np.uint16).reshape(-1, size, size)
