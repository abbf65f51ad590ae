"""Solids of the rendered scenes, and how rays meet them.

A solid is a signed distance bound in its own frame: y is up, the unit is the object's scale, the
solid lies inside a ball of radius ``bound`` and stands on the plane ``y = -rest``. Two numbers
``a`` and ``b`` in 0..1 vary the proportions within a class. A bound may be smaller than the true
distance but never larger, so that sphere tracing cannot step through a surface; maxima of planes
are used freely, because they are cheap.

Everything here works element by element on flat float32 arrays: the result for one ray does not
depend on which other rays are traced with it. That is what makes an image independent of its batch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]
Distance = Callable[[Floats, Floats, Floats, Floats, Floats], Floats]

_EPS = np.float32(2e-3)
_COMPACT_EVERY = 4


@dataclass(frozen=True)
class Solid:
    """A class of geometry: its distance bound ``(x, y, z, a, b) -> d``, resting height, bounding ball."""

    name: str
    distance: Distance
    rest: float
    bound: float


def _most(*parts: Floats | float) -> Floats:
    """Intersection of solids: the largest of their distances."""
    out: Floats = np.maximum(parts[0], parts[1])
    for part in parts[2:]:
        out = np.maximum(out, part)
    return out


def _least(*parts: Floats | float) -> Floats:
    """Union of solids: the smallest of their distances."""
    out: Floats = np.minimum(parts[0], parts[1])
    for part in parts[2:]:
        out = np.minimum(out, part)
    return out


def _norm(*parts: Floats) -> Floats:
    square = parts[0] * parts[0]
    for part in parts[1:]:
        square = square + part * part
    out: Floats = np.sqrt(square)
    return out


def _box(x: Floats, y: Floats, z: Floats, hx: Floats | float, hy: Floats | float, hz: Floats | float) -> Floats:
    return _most(np.abs(x) - hx, np.abs(y) - hy, np.abs(z) - hz)


def _sphere(x: Floats, y: Floats, z: Floats, a: Floats, b: Floats) -> Floats:
    return _norm(x, y, z) - (0.66 + 0.08 * a)


def _cuboid(x: Floats, y: Floats, z: Floats, a: Floats, b: Floats) -> Floats:
    return _box(x, y, z, 0.5 + 0.14 * a, 0.46, 0.5 + 0.14 * b)


def _cylinder(x: Floats, y: Floats, z: Floats, a: Floats, b: Floats) -> Floats:
    return _most(_norm(x, z) - (0.34 + 0.1 * a), np.abs(y) - 0.75)


def _taper(radius: Floats, y: Floats, foot: Floats, height: float) -> Floats:
    """What lies above the floor ``y = 0`` and under a slope from ``radius = foot`` to the tip at ``height``."""
    side = (radius * height + (y - height) * foot) / np.sqrt(foot * foot + height * height)
    return _most(side, -y)


def _cone(x: Floats, y: Floats, z: Floats, a: Floats, b: Floats) -> Floats:
    return _taper(_norm(x, z), y + 0.6, 0.52 + 0.14 * a, 1.45)


def _torus(x: Floats, y: Floats, z: Floats, a: Floats, b: Floats) -> Floats:
    # It leans by 35 degrees: lying flat, its hole would hide behind its own rim.
    up, side = 0.819 * y - 0.574 * z, 0.574 * y + 0.819 * z
    return _norm(_norm(x, side) - 0.66, up) - (0.15 + 0.07 * a)


def _stairs(x: Floats, y: Floats, z: Floats, a: Floats, b: Floats) -> Floats:
    # Up on one side and down on the other: from behind, a single flight would be a box.
    x = np.abs(x)
    steps = [_most(x - (0.8 - 0.27 * k), y + 0.17 - 0.33 * k) for k in range(3)]
    return _most(np.abs(z) - (0.32 + 0.12 * a), -0.5 - y, _least(*steps))


def _jack(x: Floats, y: Floats, z: Floats, a: Floats, b: Floats) -> Floats:
    x, y, z = np.abs(x), np.abs(y), np.abs(z)
    xy, yz, zx = _most(x, y), _most(y, z), _most(z, x)
    return _most(_least(xy, yz, zx) - (0.16 + 0.05 * a), _most(xy, z) - 0.85)


def _table(x: Floats, y: Floats, z: Floats, a: Floats, b: Floats) -> Floats:
    x, z = np.abs(x), np.abs(z)
    depth = 0.5 + 0.14 * a
    top = _box(x, y - 0.42, z, 0.68, 0.07, depth)
    leg = _box(x - 0.56, y + 0.08, z - (depth - 0.12), 0.09, 0.46, 0.09)
    return _least(top, leg)


def _pyramid(x: Floats, y: Floats, z: Floats, a: Floats, b: Floats) -> Floats:
    return _taper(_most(np.abs(x), np.abs(z)), y + 0.5, 0.54 + 0.1 * a, 1.25)


def _wedge(x: Floats, y: Floats, z: Floats, a: Floats, b: Floats) -> Floats:
    ramp = ((y + 0.45) * 1.36 - (x + 0.68) * 0.95) * 0.603
    return _most(np.abs(z) - (0.38 + 0.14 * a), -0.45 - y, x - 0.68, ramp)


def _arch(x: Floats, y: Floats, z: Floats, a: Floats, b: Floats) -> Floats:
    opening = _norm(x, _most(y + 0.05, 0.0)) - 0.42
    return _most(_box(x, y, z, 0.7, 0.62, 0.2 + 0.14 * a), -opening)


def _dumbbell(x: Floats, y: Floats, z: Floats, a: Floats, b: Floats) -> Floats:
    x = np.abs(x)
    ball = _norm(x - 0.6, y, z) - (0.3 + 0.07 * a)
    return _least(ball, _most(_norm(y, z) - 0.12, x - 0.6))


def _bowl(x: Floats, y: Floats, z: Floats, a: Floats, b: Floats) -> Floats:
    y = y - 0.3
    return _most(np.abs(_norm(x, y, z) - (0.66 + 0.08 * a)) - 0.06, y)


def _capsule(x: Floats, y: Floats, z: Floats, a: Floats, b: Floats) -> Floats:
    return _norm(x, _most(np.abs(y) - 0.42, 0.0), z) - (0.28 + 0.08 * a)


SOLIDS: tuple[Solid, ...] = (
    Solid("sphere", _sphere, 0.70, 0.75),
    Solid("box", _cuboid, 0.46, 1.02),
    Solid("cylinder", _cylinder, 0.75, 0.88),
    Solid("cone", _cone, 0.60, 0.91),
    Solid("torus", _torus, 0.55, 0.89),
    Solid("stairs", _stairs, 0.50, 1.05),
    Solid("jack", _jack, 0.85, 0.91),
    Solid("table", _table, 0.54, 1.07),
    Solid("pyramid", _pyramid, 0.50, 1.04),
    Solid("wedge", _wedge, 0.45, 0.98),
    Solid("arch", _arch, 0.62, 1.00),
    Solid("dumbbell", _dumbbell, 0.33, 0.98),
    Solid("bowl", _bowl, 0.46, 0.86),
    Solid("capsule", _capsule, 0.74, 0.79),
)


def dot(u: Floats, v: Floats) -> Floats:
    """Scalar products of vectors whose three components come first."""
    out: Floats = u[0] * v[0] + u[1] * v[1] + u[2] * v[2]
    return out


def ball_span(o: Floats, d: Floats, radius: Floats | float) -> tuple[Floats, Floats]:
    """Where rays ``o + t d`` are inside the ball of ``radius`` about 0.

    Args:
        o: Origins, three components first.
        d: Directions, any length, broadcastable with ``o``.
        radius: Broadcastable with one component.

    Returns:
        Entry (at least 0) and exit ``t``; the entry is past the exit where the ray misses.
    """
    square = dot(d, d)
    middle = -dot(o, d) / square
    left = dot(o, o) - radius * radius
    room = middle * middle - left / square
    half = np.sqrt(np.maximum(room, np.float32(0.0)))
    near, far = np.maximum(middle - half, np.float32(0.0)), middle + half
    return np.where(room > 0, near, far + np.float32(1.0)), far


def march(solid: Solid, o: Floats, d: Floats, start: Floats, end: Floats, ab: Floats, steps: int) -> Floats:
    """Sphere tracing.

    Args:
        solid: What to hit.
        o: Origins ``(3, n)`` in the solid's frame.
        d: Directions ``(3, n)``, any length.
        start: First ``t`` of each ray, ``(n,)``.
        end: Last ``t`` of each ray, ``(n,)``.
        ab: Proportions ``(2, n)``.
        steps: Steps at most, a multiple of 4.

    Returns:
        ``t`` of the first hit ``(n,)``, infinite where there is none.
    """
    out = np.full(o.shape[1], np.inf, np.float32)
    pace = 1 / _norm(*d)
    rays = np.concatenate([o, d, ab, pace[None]])
    index = np.arange(o.shape[1])
    t = start.copy()
    for step in range(1, steps + 1):
        gap = solid.distance(rays[0] + t * rays[3], rays[1] + t * rays[4], rays[2] + t * rays[5], rays[6], rays[7])
        t = t + gap * rays[8]
        if step % _COMPACT_EVERY:
            continue
        # The last look is more lenient: a ray that creeps along a surface is on it.
        hit = gap < (_EPS if step < steps else 8 * _EPS)
        out[index[hit]] = t[hit]
        keep = ~hit & (t < end)
        if not keep.any():
            break
        rays, index, t, end = rays[:, keep], index[keep], t[keep], end[keep]
    return out


def normals(solid: Solid, p: Floats, ab: Floats) -> Floats:
    """Unit outward normals ``(3, n)`` at surface points ``(3, n)``, from four samples of the distance."""
    step = np.float32(0.01)
    out = np.zeros_like(p)
    for sx, sy, sz in ((1, -1, -1), (-1, -1, 1), (-1, 1, -1), (1, 1, 1)):
        gap = solid.distance(p[0] + sx * step, p[1] + sy * step, p[2] + sz * step, ab[0], ab[1])
        out[0] += sx * gap
        out[1] += sy * gap
        out[2] += sz * gap
    length = _norm(*out)
    return out / _most(length, 1e-6)
