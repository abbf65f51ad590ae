"""What each pixel of the camera sees of a scene.

The parameter ``t`` of a camera ray is the distance along the optical axis, which is what a depth camera
measures. Rays are traced only inside the ball about the solid; floor and walls are algebra.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from socket_core.data.scenes_geometry import SOLIDS, Floats, ball_span, dot, march, normals
from socket_core.data.scenes_layout import Layout

FAR = 8.0
"""Metres at which a ray that meets nothing ends."""


@dataclass(frozen=True)
class View:
    """What the camera sees: one entry a pixel, ``(B, P)`` in rows, vectors ``(3, B, P)``.

    Attributes:
        z: Distance along the optical axis, metres.
        stretch: Distance along the ray divided by ``z``.
        surface: 0 the solid, 1 the floor, 2 and 3 the walls; 255 nothing.
        normal: Unit normals in the world.
        place: Where on the surface, metres, in the frame that its texture is fixed to.
        facing: Cosine between the normal and the way to the camera.
        lit: 1 where the lamp reaches the surface, 0 in cast shadow.
    """

    z: Floats
    stretch: Floats
    surface: NDArray[np.uint8]
    normal: Floats
    place: Floats
    facing: Floats
    lit: Floats


def _meet(
    scene: Layout, labels: NDArray[np.int64], which: NDArray[np.int64], o: Floats, d: Floats, steps: int
) -> tuple[Floats, Floats, Floats]:
    """First hits of n rays, of the scenes ``which``, with the solids.

    Args:
        scene: B scenes.
        labels: Their classes ``(B,)``.
        which: Scene of each ray, ``(n,)``.
        o: Origins relative to the solid's centre, world axes, metres, ``(3, n)``.
        d: Directions in the world, ``(3, n)``.
        steps: Steps at most.

    Returns:
        ``t`` (infinite without a hit), and for hits the unit normals (world) and places (solid's frame, metres).
    """
    t = np.full(which.shape, np.inf, np.float32)
    normal, place = np.zeros_like(d), np.zeros_like(d)
    for kind in np.unique(labels):
        rays = np.flatnonzero(labels[which] == kind)
        image, solid = which[rays], SOLIDS[kind]
        turn, scale, ab = scene.turn[image].transpose(1, 2, 0), scene.scale[image], scene.ab[image].T
        local_o = np.stack([dot(axis, o[:, rays]) for axis in turn]) / scale
        local_d = np.stack([dot(axis, d[:, rays]) for axis in turn]) / scale
        start, end = ball_span(local_o, local_d, solid.bound)
        t[rays] = found = march(solid, local_o, local_d, start, end, ab, steps)
        hit = np.isfinite(found)
        at = local_o[:, hit] + found[hit] * local_d[:, hit]
        out = normals(solid, at, ab[:, hit])
        normal[:, rays[hit]] = np.stack([dot(turn[:, j, hit], out) for j in range(3)])
        place[:, rays[hit]] = at * scale[hit]
    return t, normal, place


def _background(scene: Layout, d: Floats) -> tuple[Floats, NDArray[np.uint8], Floats]:
    """Depth, surface and normal of the floor or wall behind every pixel; ``d`` is ``(3, B, P)``."""
    batch = len(scene.scale)
    floor = np.broadcast_to(np.array([0, 1, 0, 0], np.float32), (batch, 1, 4))
    planes = np.concatenate([floor, scene.walls], 1)
    z = np.full(d.shape[1:], FAR, np.float32)
    surface = np.full(d.shape[1:], 255, np.uint8)
    normal = np.zeros_like(d)
    for k in range(3):
        n = planes[:, k, :3].T[:, :, None]
        above = (dot(n[:, :, 0], scene.eye.T) + planes[:, k, 3])[:, None]
        toward = -dot(n, d)
        t = above / np.maximum(toward, np.float32(1e-4))
        nearer = (toward > 1e-4) & (t < z)
        np.copyto(z, t, where=nearer)
        surface[nearer] = k + 1
        for j in range(3):
            np.copyto(normal[j], n[j], where=nearer)
    return z, surface, normal


def see(scene: Layout, labels: NDArray[np.int64], size: int) -> View:
    """Traces the camera's rays, then the way from each visible point to the lamp.

    Args:
        scene: B scenes.
        labels: The solid of each, ``(B,)``.
        size: Pixels a side; P is its square.
    """
    grid = (np.arange(size, dtype=np.float32) + np.float32(0.5)) / np.float32(size) - np.float32(0.5)
    column, row = np.tile(grid, size), np.repeat(grid, size)
    x = (column - scene.shift[:, :1]) / scene.focal[:, None]
    y = (row - scene.shift[:, 1:]) / scene.focal[:, None]
    d = np.stack([x * r + y * u + f for r, u, f in scene.camera.transpose(2, 1, 0)[..., None]])
    z, surface, normal = _background(scene, d)

    rest = np.array([SOLIDS[k].rest for k in labels], np.float32) * scene.scale
    bound = np.array([SOLIDS[k].bound for k in labels], np.float32) * scene.scale
    centre = scene.turn[:, 1].T * rest
    centre[1] += scene.lift
    from_centre = scene.eye.T - centre
    near, far = ball_span(from_centre[:, :, None], d, bound[:, None])
    flat = np.flatnonzero(near < far)
    which = flat // (size * size)
    t, n, at = _meet(scene, labels, which, from_centre[:, which], d.reshape(3, -1)[:, flat], 32)
    front = t < z.ravel()[flat]
    flat, which = flat[front], which[front]
    z.ravel()[flat], surface.ravel()[flat] = t[front], 0
    normal.reshape(3, -1)[:, flat] = n[:, front]

    place = scene.eye.T[:, :, None] + z * d
    lit = _lit(scene, labels, place - centre[:, :, None], normal, surface, bound)
    place.reshape(3, -1)[:, flat] = at[:, front]
    stretch = np.sqrt(dot(d, d))
    return View(z, stretch, surface, normal, place, -dot(normal, d) / stretch, lit)


def _lit(
    scene: Layout, labels: NDArray[np.int64], o: Floats, normal: Floats, surface: NDArray[np.uint8], bound: Floats
) -> Floats:
    """1 where no solid stands between a point and the lamp; ``o`` is relative to the solid's centre."""
    light = scene.light.T[:, :, None]
    o = o + normal * (0.04 * scene.scale[:, None])
    near, far = ball_span(o, light, bound[:, None])
    ask = (near < far) & (dot(normal, light) > 0) & (surface != 255)
    flat = np.flatnonzero(ask)
    which = flat // surface.shape[1]
    t, _, _ = _meet(scene, labels, which, o.reshape(3, -1)[:, flat], scene.light.T[:, which], 16)
    lit = np.ones(surface.shape, np.float32)
    lit.ravel()[flat[np.isfinite(t)]] = 0
    return lit
