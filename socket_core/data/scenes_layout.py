"""What stands where in a rendered scene: camera, pose, room, light and materials.

The world: y up, metres, the solid stands at the origin on the floor ``y = 0`` in front of a corner
of two walls. A layout is drawn without knowing the class, so that nothing in it can tell the class.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from socket_core.data.scenes_geometry import Floats, dot

UNIFORMS = 128
"""Random numbers an image may spend on its layout."""

SURFACES = 4
"""The solid, the floor and two walls, in this order."""


class _Draw:
    """Hands out uniform numbers, the same ones of each image for the same purpose."""

    def __init__(self, uniforms: NDArray[np.float64]) -> None:
        self._left = uniforms.astype(np.float32)

    def __call__(self, low: float, high: float, *shape: int) -> Floats:
        n = int(np.prod(shape, dtype=int))
        taken, self._left = self._left[:, :n], self._left[:, n:]
        if taken.shape[1] < n:
            raise AssertionError("UNIFORMS is too small")
        out: Floats = np.float32(low) + np.float32(high - low) * taken.reshape(-1, *shape)
        return out


@dataclass(frozen=True)
class Layout:
    """Parameters of B scenes; every array starts with the axis of the scenes.

    Attributes:
        focal: Focal length in image widths.
        shift: Principal point off the centre, in image widths, ``(B, 2)``.
        camera: Camera axes right, down, forward in the world, ``(B, 3, 3)``.
        eye: Camera position, ``(B, 3)`` metres.
        walls: Normals and offsets of the walls, ``n.p = -offset``, ``(B, 2, 4)``.
        turn: Axes of the solid in the world, as rows, ``(B, 3, 3)``.
        scale: Metres per unit of the solid.
        lift: Height of the solid's resting plane above the floor, metres.
        ab: Proportions of the solid, ``(B, 2)``.
        light: Direction towards the lamp ``(B, 3)``; ``lamp`` and ``ambient`` are its colours.
        gloss: Strength of highlights on the solid.
        waves: Texture wave vectors ``(B, 4, 3, 3)`` and ``phases`` ``(B, 4, 3)``, one row a surface.
        pattern: Texture kind, 0 to 2, and ``sharp`` its contrast at edges, ``(B, 4)``.
        colours: Two linear RGB reflectances a surface, ``(B, 4, 2, 3)``.
        infrared: Two near-infrared reflectances a surface, independent of its colours, ``(B, 4, 2)``.
        gains: Exposure of RGB, exposure of infrared, ambient infrared, ``(B, 3)``.
    """

    focal: Floats
    shift: Floats
    camera: Floats
    eye: Floats
    walls: Floats
    turn: Floats
    scale: Floats
    lift: Floats
    ab: Floats
    light: Floats
    lamp: Floats
    ambient: Floats
    gloss: Floats
    waves: Floats
    phases: Floats
    pattern: Floats
    sharp: Floats
    colours: Floats
    infrared: Floats
    gains: Floats


def _rows(*components: Floats) -> Floats:
    out: Floats = np.stack(components, axis=-1)
    return out


def _camera(draw: _Draw) -> tuple[Floats, Floats, Floats, Floats, Floats]:
    focal, distance = draw(1.15, 1.4), draw(1.2, 2.0)
    pitch, roll = draw(0.4, 0.72), draw(-0.1, 0.1)
    zero = np.zeros_like(pitch)
    right = _rows(np.cos(roll), np.sin(roll) * np.cos(pitch), np.sin(roll) * np.sin(pitch))
    down = _rows(np.sin(roll), -np.cos(roll) * np.cos(pitch), -np.cos(roll) * np.sin(pitch))
    forward = _rows(zero, -np.sin(pitch), np.cos(pitch))
    scale = draw(0.28, 0.37) * distance / focal
    eye = -distance[:, None] * forward + _rows(zero, 0.5 * scale, zero)
    return focal, np.stack([right, down, forward], 1), eye, scale, draw(-0.1, 0.1, 2)


def _pose(draw: _Draw, scale: Floats) -> tuple[Floats, Floats]:
    yaw, tilt, way = draw(0, 2 * np.pi), draw(0, 0.3), draw(0, 2 * np.pi)
    c, s, zero, one = np.cos(yaw), np.sin(yaw), np.zeros_like(yaw), np.ones_like(yaw)
    flat = np.stack([_rows(c, zero, s), _rows(zero, one, zero), _rows(-s, zero, c)], 1)
    # Rodrigues' formula about a horizontal axis (u, 0, w).
    u, w, k, h = np.cos(way), np.sin(way), np.cos(tilt), np.sin(tilt)
    lean = np.stack(
        [
            _rows(k + u * u * (1 - k), -w * h, u * w * (1 - k)),
            _rows(w * h, k, -u * h),
            _rows(u * w * (1 - k), u * h, k + w * w * (1 - k)),
        ],
        1,
    )
    turn = np.stack([_rows(*[dot(flat[:, i].T, lean[:, j].T) for j in range(3)]) for i in range(3)], 1)
    return turn, 0.4 * scale * np.sin(tilt)


def _room(draw: _Draw) -> Floats:
    angle, near, side = draw(-0.8, 0.8), draw(0.6, 1.6), draw(0.7, 3.0)
    sign, zero = np.where(angle < 0, np.float32(-1), np.float32(1)), np.zeros_like(angle)
    back = _rows(np.sin(angle), zero, -np.cos(angle), near)
    return np.stack([back, _rows(-sign * np.cos(angle), zero, -sign * np.sin(angle), side)], 1)


def _directions(draw: _Draw) -> Floats:
    z, azimuth = draw(-1, 1, SURFACES, 3), draw(0, 2 * np.pi, SURFACES, 3)
    flat = np.sqrt(1 - z * z)
    return _rows(flat * np.cos(azimuth), z, flat * np.sin(azimuth))


def layout(uniforms: NDArray[np.float64]) -> Layout:
    """Scenes from ``(B, UNIFORMS)`` uniform numbers."""
    draw = _Draw(uniforms)
    focal, camera, eye, scale, shift = _camera(draw)
    turn, lift = _pose(draw, scale)
    walls = _room(draw)
    height, azimuth, strength = draw(0.45, 1.3), draw(0, 2 * np.pi), draw(0.7, 1.3)
    light = _rows(np.cos(height) * np.sin(azimuth), np.sin(height), np.cos(height) * np.cos(azimuth))
    # About half of the surfaces are plain; the others vary by less than half the way to another colour.
    first = draw(0.18, 0.9, SURFACES, 1, 1) * draw(0.5, 1.0, SURFACES, 1, 3)
    other = draw(0.18, 0.9, SURFACES, 1, 1) * draw(0.5, 1.0, SURFACES, 1, 3)
    second = first + np.maximum(draw(-0.4, 0.4, SURFACES, 1, 1), np.float32(0)) * (other - first)
    dark = draw(0.3, 0.95, SURFACES, 1)
    return Layout(
        focal=focal,
        shift=shift,
        camera=camera,
        eye=eye,
        walls=walls,
        turn=turn,
        scale=scale,
        lift=lift,
        ab=draw(0, 1, 2),
        light=light,
        lamp=strength[:, None] * draw(0.75, 1.0, 3),
        ambient=draw(0.28, 0.42)[:, None] * draw(0.8, 1.0, 3),
        gloss=draw(0.0, 0.5),
        waves=draw(5.0, 20.0, SURFACES, 1, 1) * _directions(draw),
        phases=draw(0, 2 * np.pi, SURFACES, 3),
        pattern=np.floor(draw(0, 2.999, SURFACES)),
        sharp=draw(0.7, 3.0, SURFACES),
        colours=np.concatenate([first, second], 2),
        infrared=np.concatenate([dark, dark * draw(0.7, 1.0, SURFACES, 1)], 2),
        gains=_rows(draw(0.8, 1.15), draw(0.8, 1.2), draw(0.0, 0.06)),
    )
