"""Solids, rays and sensors of rendered scenes: aligned with each other and with the geometry."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from socket_core.data import scenes
from socket_core.data import scenes_sensors as sensors
from socket_core.data.scenes_geometry import SOLIDS, ball_span, march, normals
from socket_core.data.scenes_layout import UNIFORMS, layout
from socket_core.data.scenes_view import View, see
from tests.core.builders import SCENE_SIDE

ALL = np.arange(len(scenes.CLASSES), dtype=np.int64)


def views(labels: np.ndarray[Any, np.dtype[np.int64]], seed: int = 0) -> View:
    return see(layout(np.random.default_rng(seed).random((len(labels), UNIFORMS))), labels, SCENE_SIDE)


def test_measured_depth_agrees_with_geometry() -> None:
    labels = np.tile(ALL, 3)
    rng = np.random.default_rng(0)
    scene = layout(rng.random((len(labels), UNIFORMS)))
    view = see(scene, labels, SCENE_SIDE)
    quiet = np.zeros(view.z.shape, np.float32)
    measured = sensors.depth(scene, view, quiet, quiet + np.float32(1), SCENE_SIDE).reshape(view.z.shape)
    known = measured > 0
    assert known.mean() > 0.8
    assert np.abs(measured[known] - 1000 * view.z[known]).max() < 12


def test_sensors_are_aligned_on_the_solid() -> None:
    """Two solids in one and the same scene: each sensor changes where the geometry does, and only there."""
    cubes, spheres = np.full(20, 1, np.int64), np.zeros(20, np.int64)
    uniforms = np.random.default_rng(1).random((20, UNIFORMS))
    one, other = see(layout(uniforms), cubes, SCENE_SIDE), see(layout(uniforms), spheres, SCENE_SIDE)
    moved = ((np.abs(one.z - other.z) > 0.05) & (one.surface != other.surface)).reshape(-1, SCENE_SIDE, SCENE_SIDE)
    untouched = ((one.surface == other.surface) & (one.surface > 0) & (one.lit == other.lit)).reshape(
        -1, SCENE_SIDE, SCENE_SIDE
    )
    assert moved.mean() > 0.005
    scene, none = layout(uniforms), np.zeros((20, 3, SCENE_SIDE * SCENE_SIDE), np.float32)
    sure = none[:, 0] + np.float32(1)
    depths = [sensors.depth(scene, v, none[:, 0], sure, SCENE_SIDE).astype(float) for v in (one, other)]
    seen = (depths[0] > 0) & (depths[1] > 0)
    assert np.all(np.abs(depths[0] - depths[1])[seen & moved] > 30)
    assert np.all(depths[0][seen & untouched] == depths[1][seen & untouched])
    # The lens blurs by one pixel: look away from what changed.
    changed = ~untouched
    for axis in (1, 2):
        changed = changed | np.roll(changed, 1, axis) | np.roll(changed, -1, axis)
    colours = [sensors.colour(scene, v, none, SCENE_SIDE).astype(int) for v in (one, other)]
    infrared = [sensors.infrared(scene, v, none[:, 0], SCENE_SIDE).astype(int) for v in (one, other)]
    assert np.array_equal(colours[0][~changed], colours[1][~changed])
    assert np.array_equal(infrared[0][~changed], infrared[1][~changed])
    assert np.abs(infrared[0] - infrared[1])[moved].mean() > 10


@pytest.mark.parametrize("kind", range(len(SOLIDS)), ids=scenes.CLASSES)
def test_solid_is_seen_stands_on_the_floor_and_fits_its_ball(kind: int) -> None:
    view = views(np.full(12, kind, np.int64))
    share = (view.surface == 0).reshape(12, -1).mean(1)
    assert share.min() > 0.01
    assert share.max() < 0.5
    solid, rng = SOLIDS[kind], np.random.default_rng(kind)
    points = rng.uniform(-1.3, 1.3, (3, 40_000)).astype(np.float32)
    ab = rng.random((2, 40_000)).astype(np.float32)
    inside = points[:, solid.distance(*points, *ab) < 0]
    assert np.sqrt((inside**2).sum(0)).max() <= solid.bound
    assert inside[1].min() >= -solid.rest - 0.12
    assert inside[1].min() <= -solid.rest + 0.12


def test_distances_never_overestimate() -> None:
    """A ball of the claimed radius about any point holds no surface, or tracing would step through it."""
    rng = np.random.default_rng(0)
    start = rng.uniform(-1.2, 1.2, (3, 4000)).astype(np.float32)
    ab = rng.random((2, 4000)).astype(np.float32)
    way = rng.standard_normal((3, 4000)).astype(np.float32)
    way /= np.sqrt((way**2).sum(0))
    for solid in SOLIDS:
        gap = solid.distance(*start, *ab)
        reached = solid.distance(*(start + way * np.maximum(gap, 0) * np.float32(0.99)), *ab)
        assert reached[gap > 0.01].min() > 0, solid.name


def test_march_finds_a_sphere_where_algebra_does() -> None:
    rng = np.random.default_rng(0)
    origin = np.tile(np.array([[0.0], [0.0], [-3.0]], np.float32), 500)
    towards = np.stack([*rng.uniform(-0.2, 0.2, (2, 500)), np.ones(500)]).astype(np.float32)
    ab = np.full((2, 500), 0.5, np.float32)
    start, end = ball_span(origin, towards, SOLIDS[0].bound)
    t = march(SOLIDS[0], origin, towards, start, end, ab, 32)
    exact, leave = ball_span(origin, towards, 0.7)
    both = np.isfinite(t) & (exact < leave)
    assert both.mean() > 0.5
    assert np.mean(np.isfinite(t) == (exact < leave)) > 0.97
    error = np.abs(t[both] - exact[both])
    assert error.max() < 0.05
    assert np.median(error) < 0.003
    at = (origin + t * towards)[:, both]
    assert np.allclose(normals(SOLIDS[0], at, ab[:, both]), at / np.sqrt((at**2).sum(0)), atol=0.02)


def test_all_but_the_solid_is_independent_of_the_class() -> None:
    """With one seed, a pixel that shows the background under two classes shows the same background."""
    one, other = views(np.zeros(14, np.int64)), views(ALL)
    background = (one.surface > 0) & (other.surface > 0)
    assert background.mean() > 0.5
    assert np.array_equal(one.z[background], other.z[background])
    assert np.array_equal(one.surface[background], other.surface[background])
    assert np.array_equal(one.place[:, background], other.place[:, background])
