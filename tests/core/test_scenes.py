"""Rendered scenes: same seed, same pixels; aligned sensors; sets that share nothing; a cache that heals."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from socket_core.data import scenes, scenes_cache
from socket_core.data import scenes_sensors as sensors
from socket_core.data.scenes_geometry import SOLIDS, ball_span, march, normals
from socket_core.data.scenes_layout import UNIFORMS, layout
from socket_core.data.scenes_view import View, see
from socket_core.data.types import Images, TransferTask
from socket_core.errors import ConfigError, DataError, SocketError
from socket_core.seeds import derive_seed

SIZE = 48
ALL = np.arange(len(scenes.CLASSES), dtype=np.int64)
COUNTS = {"source_train": 24, "source_test": 9, "target_train": 16, "target_test": 8, "ti": 12}


def load(cache: Path | None = None, **changes: Any) -> TransferTask:
    return scenes.load_scenes(**{"size": SIZE, "modality": "depth", "seed": 5, "cache": cache, **COUNTS, **changes})


def same(left: scenes.Rendered, right: scenes.Rendered) -> bool:
    pairs = ((left.rgb, right.rgb), (left.depth, right.depth), (left.nir, right.nir))
    return all(a.dtype == b.dtype and np.array_equal(a, b) for a, b in pairs)


def parts(task: TransferTask) -> dict[str, Images]:
    return {
        "source_train": task.source_train.images,
        "source_test": task.source_test.images,
        "target_train": task.target_train.images,
        "target_test": task.target_test.images,
        "ti_rgb": task.ti.rgb,
        "ti_target": task.ti.target,
    }


def views(labels: np.ndarray[Any, np.dtype[np.int64]], seed: int = 0) -> View:
    return see(layout(np.random.default_rng(seed).random((len(labels), UNIFORMS))), labels, SIZE)


@pytest.fixture(scope="module")
def rendered() -> scenes.Rendered:
    return scenes.render(np.tile(ALL, 6), size=SIZE, seed=11)


def test_classes_are_fourteen_and_split_into_eight_and_six() -> None:
    assert len(set(scenes.CLASSES)) == 14
    assert (len(scenes.TASK_RELEVANT), len(scenes.TASK_IRRELEVANT)) == (8, 6)
    assert scenes.TASK_RELEVANT + scenes.TASK_IRRELEVANT == scenes.CLASSES


def test_shapes_and_types(rendered: scenes.Rendered) -> None:
    n = len(rendered.rgb)
    assert rendered.rgb.shape == (n, SIZE, SIZE, 3)
    assert rendered.depth.shape == rendered.nir.shape == (n, SIZE, SIZE)
    assert [str(array.dtype) for array in (rendered.rgb, rendered.depth, rendered.nir)] == ["uint8", "uint16", "uint8"]
    assert rendered.of("depth").full_scale == scenes.DEPTH_FULL_SCALE
    assert rendered.of("rgb").full_scale == rendered.of("nir").full_scale == 255


def test_rendering_again_is_bit_identical() -> None:
    assert same(scenes.render(ALL, size=SIZE, seed=3), scenes.render(ALL, size=SIZE, seed=3))


def test_images_do_not_depend_on_how_many_are_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    labels = np.tile(ALL, 6)
    whole = scenes.render(labels, size=SIZE, seed=3)
    few = scenes.render(labels[:17], size=SIZE, seed=3)
    assert same(few, scenes.Rendered(whole.rgb[:17], whole.depth[:17], whole.nir[:17]))
    monkeypatch.setattr(scenes, "_CHUNK_PIXELS", 5 * SIZE * SIZE)
    assert same(whole, scenes.render(labels, size=SIZE, seed=3))


def test_an_image_does_not_depend_on_the_labels_of_others() -> None:
    labels = ALL.copy()
    whole = scenes.render(labels, size=SIZE, seed=3)
    labels[1:] = 0
    alone = scenes.render(labels, size=SIZE, seed=3)
    assert np.array_equal(whole.rgb[0], alone.rgb[0])
    assert np.array_equal(whole.depth[0], alone.depth[0])


def test_seeds_give_different_images() -> None:
    assert not same(scenes.render(ALL, size=SIZE, seed=3), scenes.render(ALL, size=SIZE, seed=4))


def test_largest_size_renders() -> None:
    assert scenes.render(ALL[:2], size=64, seed=0).rgb.shape == (2, 64, 64, 3)


def test_empty_request_gives_empty_arrays() -> None:
    assert len(scenes.render(ALL[:0], size=SIZE, seed=0).rgb) == 0


def test_depth_is_sixteen_bit_within_range_and_has_holes(rendered: scenes.Rendered) -> None:
    depth = rendered.depth
    known = depth[depth > 0]
    assert known.min() >= 400
    assert known.max() <= scenes.DEPTH_FULL_SCALE
    assert len(np.unique(known)) > 256
    assert 0.005 < np.mean(depth == 0) < 0.15


def test_depth_steps_grow_with_distance(rendered: scenes.Rendered) -> None:
    values = np.unique(rendered.depth[rendered.depth > 0]).astype(float)
    steps, places = np.diff(values), values[1:]
    assert np.median(steps[places > 2500]) > 2 * np.median(steps[places < 1500])


def test_measured_depth_agrees_with_geometry() -> None:
    labels = np.tile(ALL, 3)
    rng = np.random.default_rng(0)
    scene = layout(rng.random((len(labels), UNIFORMS)))
    view = see(scene, labels, SIZE)
    quiet = np.zeros(view.z.shape, np.float32)
    measured = sensors.depth(scene, view, quiet, quiet + np.float32(1), SIZE).reshape(view.z.shape)
    known = measured > 0
    assert known.mean() > 0.8
    assert np.abs(measured[known] - 1000 * view.z[known]).max() < 12


def test_sensors_are_aligned_on_the_solid() -> None:
    """Two solids in one and the same scene: each sensor changes where the geometry does, and only there."""
    cubes, spheres = np.full(20, 1, np.int64), np.zeros(20, np.int64)
    uniforms = np.random.default_rng(1).random((20, UNIFORMS))
    one, other = see(layout(uniforms), cubes, SIZE), see(layout(uniforms), spheres, SIZE)
    moved = ((np.abs(one.z - other.z) > 0.05) & (one.surface != other.surface)).reshape(-1, SIZE, SIZE)
    untouched = ((one.surface == other.surface) & (one.surface > 0) & (one.lit == other.lit)).reshape(-1, SIZE, SIZE)
    assert moved.mean() > 0.005
    scene, none = layout(uniforms), np.zeros((20, 3, SIZE * SIZE), np.float32)
    sure = none[:, 0] + np.float32(1)
    depths = [sensors.depth(scene, v, none[:, 0], sure, SIZE).astype(float) for v in (one, other)]
    seen = (depths[0] > 0) & (depths[1] > 0)
    assert np.all(np.abs(depths[0] - depths[1])[seen & moved] > 30)
    assert np.all(depths[0][seen & untouched] == depths[1][seen & untouched])
    # The lens blurs by one pixel: look away from what changed.
    changed = ~untouched
    for axis in (1, 2):
        changed = changed | np.roll(changed, 1, axis) | np.roll(changed, -1, axis)
    colours = [sensors.colour(scene, v, none, SIZE).astype(int) for v in (one, other)]
    infrared = [sensors.infrared(scene, v, none[:, 0], SIZE).astype(int) for v in (one, other)]
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


def test_task_has_the_sets_asked_for() -> None:
    task = load()
    assert task.classes == scenes.TASK_RELEVANT
    assert [len(images) for images in parts(task).values()] == [24, 9, 16, 8, 12, 12]
    assert task.source_train.images.pixels.ndim == task.ti.rgb.pixels.ndim == 4
    assert task.target_train.images.pixels.dtype == task.ti.target.pixels.dtype == np.uint16
    for part in (task.source_train, task.source_test, task.target_train, task.target_test):
        counts = np.bincount(part.labels, minlength=8)
        assert counts.max() - counts.min() <= 1
    assert not np.array_equal(task.source_train.labels[:8], task.source_train.labels[8:16])


def test_infrared_task() -> None:
    task = load(modality="nir")
    assert task.target_test.images.pixels.dtype == task.ti.target.pixels.dtype == np.uint8
    assert task.target_test.images.full_scale == 255


def test_sets_share_no_scene() -> None:
    """Every scene of a set has its own layout; a layout seen twice would be a leak from source to target."""
    seeds = [derive_seed(5, "scenes", name) for name in COUNTS]
    assert len(set(seeds)) == len(COUNTS)
    labels = np.zeros(24, np.int64)
    pictures = [scenes.render(labels, size=SIZE, seed=seed).depth for seed in seeds]
    assert len({picture.tobytes() for batch in pictures for picture in batch}) == 24 * len(COUNTS)
    task = load()
    again = scenes.render(task.source_train.labels, size=SIZE, seed=seeds[0])
    assert np.array_equal(task.source_train.images.pixels, again.rgb)


def test_pairs_show_the_same_view_of_irrelevant_classes() -> None:
    task, stream = load(), derive_seed(5, "scenes", "ti")
    labels = 8 + scenes._balanced(12, 6, stream)
    both = scenes.render(labels, size=SIZE, seed=stream)
    assert labels.min() >= 8
    assert np.array_equal(task.ti.rgb.pixels, both.rgb)
    assert np.array_equal(task.ti.target.pixels, both.depth)


def test_more_images_keep_the_first_ones() -> None:
    few, many = load(), load(source_train=40)
    assert np.array_equal(few.source_train.labels, many.source_train.labels[:24])
    assert np.array_equal(few.source_train.images.pixels, many.source_train.images.pixels[:24])
    assert np.array_equal(few.ti.rgb.pixels, many.ti.rgb.pixels)


def test_progress_counts_to_the_total() -> None:
    seen: list[tuple[int, int]] = []
    load(progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (69, 69)
    assert [done for done, _ in seen] == sorted({done for done, _ in seen})


def test_cache_gives_the_same_pixels_without_rendering(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fresh = load(tmp_path / "new" / "cache")
    monkeypatch.setattr(scenes, "render", lambda *_, **__: pytest.fail("rendered again"))
    kept = load(tmp_path / "new" / "cache")
    for name, images in parts(fresh).items():
        assert np.array_equal(images.pixels, parts(kept)[name].pixels), name
    assert np.array_equal(fresh.target_test.labels, kept.target_test.labels)
    assert kept.source_train.images.pixels.flags.writeable
    assert [p.name for p in (tmp_path / "new" / "cache").iterdir() if p.name.startswith(".")] == []


def test_cached_files_cannot_be_changed_through_the_arrays(tmp_path: Path) -> None:
    load(tmp_path)
    load(tmp_path).source_train.images.pixels[:] = 0
    assert load(tmp_path).source_train.images.pixels.any()


def test_cache_tells_parameters_apart(tmp_path: Path) -> None:
    load(tmp_path)
    load(tmp_path, seed=6)
    load(tmp_path, modality="nir")
    assert len(list(tmp_path.iterdir())) == 3


@pytest.mark.parametrize("damage", ["truncated", "flipped bit", "empty", "missing", "no index", "foreign index"])
def test_damaged_cache_is_rendered_again(tmp_path: Path, damage: str) -> None:
    whole = load(tmp_path)
    (folder,) = tmp_path.iterdir()
    file, index = folder / "source_train.rgb.npy", folder / "index.json"
    content = file.read_bytes()
    if damage == "truncated":
        file.write_bytes(content[: len(content) // 2])
    elif damage == "flipped bit":
        file.write_bytes(content[:5000] + bytes([content[5000] ^ 1]) + content[5001:])
    elif damage == "empty":
        file.write_bytes(b"")
    elif damage == "missing":
        file.unlink()
    elif damage == "no index":
        index.unlink()
    else:
        index.write_text("[]")
    healed = load(tmp_path)
    assert np.array_equal(healed.source_train.images.pixels, whole.source_train.images.pixels)
    assert file.read_bytes() == content
    assert [p.name for p in tmp_path.iterdir()] == [folder.name]


def test_another_process_may_win_the_race(tmp_path: Path) -> None:
    key: scenes_cache.Key = {"version": 1}
    arrays = {"x": np.arange(4)}

    def slow() -> scenes_cache.Arrays:
        scenes_cache.load(tmp_path, key, lambda: arrays)
        return arrays

    assert np.array_equal(scenes_cache.load(tmp_path, key, slow)["x"], arrays["x"])
    assert [p.name for p in tmp_path.iterdir()] == [scenes_cache.folder_of(tmp_path, key).name]


def test_cache_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(DataError, match="cannot be written") as caught:
        load(tmp_path / "file")
    assert caught.value.where == str(tmp_path / "file")
    assert caught.value.remedy


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"size": 47}, "size"),
        ({"size": 65}, "size"),
        ({"seed": -1}, "seed"),
        ({"modality": "rgb"}, "modality"),
        ({"ti": 0}, "ti"),
        ({"target_test": -3}, "target_test"),
    ],
)
def test_bad_parameters_are_refused(change: dict[str, Any], where: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(**change)
    assert caught.value.where == where
    assert caught.value.remedy


@pytest.mark.parametrize("labels", [np.array([0, 14]), np.array([-1]), np.zeros(3), np.zeros((2, 2), np.int64)])
def test_bad_labels_are_refused(labels: np.ndarray[Any, Any]) -> None:
    with pytest.raises(SocketError) as caught:
        scenes.render(labels, size=SIZE, seed=0)
    assert caught.value.where.startswith("labels")


def test_scenes_are_the_frozen_ones() -> None:
    """Means of three scenes a sensor; a change here needs a new ``_VERSION`` and new figures in the ADR."""
    images = scenes.render(ALL[:3], size=SIZE, seed=9)
    means = [array.reshape(3, -1).astype(float).mean(1) for array in (images.rgb, images.depth, images.nir)]
    # Another processor may round a sine otherwise, and a pixel more or less may then have no depth.
    assert np.allclose(means[0], [195.65, 140.57, 102.18], atol=0.1)
    assert np.allclose(means[1], [1603.57, 1633.30, 1548.78], atol=5)
    assert np.allclose(means[2], [62.62, 100.80, 62.98], atol=0.1)
