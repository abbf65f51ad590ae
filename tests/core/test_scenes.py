"""Rendered scenes: same seed, same pixels; depth as a sensor has it; sets that share nothing."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from socket_core.data import scenes
from socket_core.errors import ConfigError, SocketError
from socket_core.seeds import derive_seed
from tests.core.builders import SCENE_COUNTS, SCENE_SIDE, scenes_task, task_parts

ALL = np.arange(len(scenes.CLASSES), dtype=np.int64)


def same(left: scenes.Rendered, right: scenes.Rendered) -> bool:
    pairs = ((left.rgb, right.rgb), (left.depth, right.depth), (left.nir, right.nir))
    return all(a.dtype == b.dtype and np.array_equal(a, b) for a, b in pairs)


@pytest.fixture(scope="module")
def rendered() -> scenes.Rendered:
    return scenes.render(np.tile(ALL, 6), size=SCENE_SIDE, seed=11)


def test_classes_are_fourteen_and_split_into_eight_and_six() -> None:
    assert len(set(scenes.CLASSES)) == 14
    assert (len(scenes.TASK_RELEVANT), len(scenes.TASK_IRRELEVANT)) == (8, 6)
    assert scenes.TASK_RELEVANT + scenes.TASK_IRRELEVANT == scenes.CLASSES


def test_shapes_and_types(rendered: scenes.Rendered) -> None:
    n = len(rendered.rgb)
    assert rendered.rgb.shape == (n, SCENE_SIDE, SCENE_SIDE, 3)
    assert rendered.depth.shape == rendered.nir.shape == (n, SCENE_SIDE, SCENE_SIDE)
    assert [str(array.dtype) for array in (rendered.rgb, rendered.depth, rendered.nir)] == ["uint8", "uint16", "uint8"]
    assert rendered.of("depth").full_scale == scenes.DEPTH_FULL_SCALE
    assert rendered.of("rgb").full_scale == rendered.of("nir").full_scale == 255


def test_rendering_again_is_bit_identical() -> None:
    assert same(scenes.render(ALL, size=SCENE_SIDE, seed=3), scenes.render(ALL, size=SCENE_SIDE, seed=3))


def test_images_do_not_depend_on_how_many_are_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    labels = np.tile(ALL, 6)
    whole = scenes.render(labels, size=SCENE_SIDE, seed=3)
    few = scenes.render(labels[:17], size=SCENE_SIDE, seed=3)
    assert same(few, scenes.Rendered(whole.rgb[:17], whole.depth[:17], whole.nir[:17]))
    monkeypatch.setattr(scenes, "_CHUNK_PIXELS", 5 * SCENE_SIDE * SCENE_SIDE)
    assert same(whole, scenes.render(labels, size=SCENE_SIDE, seed=3))


def test_an_image_does_not_depend_on_the_labels_of_others() -> None:
    labels = ALL.copy()
    whole = scenes.render(labels, size=SCENE_SIDE, seed=3)
    labels[1:] = 0
    alone = scenes.render(labels, size=SCENE_SIDE, seed=3)
    assert np.array_equal(whole.rgb[0], alone.rgb[0])
    assert np.array_equal(whole.depth[0], alone.depth[0])


def test_seeds_give_different_images() -> None:
    assert not same(scenes.render(ALL, size=SCENE_SIDE, seed=3), scenes.render(ALL, size=SCENE_SIDE, seed=4))


def test_largest_size_renders() -> None:
    assert scenes.render(ALL[:2], size=64, seed=0).rgb.shape == (2, 64, 64, 3)


def test_empty_request_gives_empty_arrays() -> None:
    assert len(scenes.render(ALL[:0], size=SCENE_SIDE, seed=0).rgb) == 0


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


def test_task_has_the_sets_asked_for() -> None:
    task = scenes_task()
    assert task.classes == scenes.TASK_RELEVANT
    assert [len(images) for images in task_parts(task).values()] == [24, 9, 16, 8, 12, 12]
    assert task.source_train.images.pixels.ndim == task.ti.rgb.pixels.ndim == 4
    assert task.target_train.images.pixels.dtype == task.ti.target.pixels.dtype == np.uint16
    for part in (task.source_train, task.source_test, task.target_train, task.target_test):
        counts = np.bincount(part.labels, minlength=8)
        assert counts.max() - counts.min() <= 1
    assert not np.array_equal(task.source_train.labels[:8], task.source_train.labels[8:16])


def test_infrared_task() -> None:
    task = scenes_task(modality="nir")
    assert task.target_test.images.pixels.dtype == task.ti.target.pixels.dtype == np.uint8
    assert task.target_test.images.full_scale == 255


def test_sets_share_no_scene() -> None:
    """Every scene of a set has its own layout; a layout seen twice would be a leak from source to target."""
    seeds = [derive_seed(5, "scenes", name) for name in SCENE_COUNTS]
    assert len(set(seeds)) == len(SCENE_COUNTS)
    labels = np.zeros(24, np.int64)
    pictures = [scenes.render(labels, size=SCENE_SIDE, seed=seed).depth for seed in seeds]
    assert len({picture.tobytes() for batch in pictures for picture in batch}) == 24 * len(SCENE_COUNTS)
    task = scenes_task()
    again = scenes.render(task.source_train.labels, size=SCENE_SIDE, seed=seeds[0])
    assert np.array_equal(task.source_train.images.pixels, again.rgb)


def test_pairs_show_the_same_view_of_irrelevant_classes() -> None:
    task, stream = scenes_task(), derive_seed(5, "scenes", "ti")
    labels = 8 + scenes._balanced(12, 6, stream)
    both = scenes.render(labels, size=SCENE_SIDE, seed=stream)
    assert labels.min() >= 8
    assert np.array_equal(task.ti.rgb.pixels, both.rgb)
    assert np.array_equal(task.ti.target.pixels, both.depth)


def test_more_images_keep_the_first_ones() -> None:
    few, many = scenes_task(), scenes_task(source_train=40)
    assert np.array_equal(few.source_train.labels, many.source_train.labels[:24])
    assert np.array_equal(few.source_train.images.pixels, many.source_train.images.pixels[:24])
    assert np.array_equal(few.ti.rgb.pixels, many.ti.rgb.pixels)


def test_progress_counts_to_the_total() -> None:
    seen: list[tuple[int, int]] = []
    scenes_task(progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (69, 69)
    assert [done for done, _ in seen] == sorted({done for done, _ in seen})


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
        scenes_task(**change)
    assert caught.value.where == where
    assert caught.value.remedy


@pytest.mark.parametrize("labels", [np.array([0, 14]), np.array([-1]), np.zeros(3), np.zeros((2, 2), np.int64)])
def test_bad_labels_are_refused(labels: np.ndarray[Any, Any]) -> None:
    with pytest.raises(SocketError) as caught:
        scenes.render(labels, size=SCENE_SIDE, seed=0)
    assert caught.value.where.startswith("labels")


def test_scenes_are_the_frozen_ones() -> None:
    """Means of three scenes a sensor; a change here needs a new ``_VERSION`` and new figures in the ADR."""
    images = scenes.render(ALL[:3], size=SCENE_SIDE, seed=9)
    means = [array.reshape(3, -1).astype(float).mean(1) for array in (images.rgb, images.depth, images.nir)]
    # Another processor may round a sine otherwise, and a pixel more or less may then have no depth.
    assert np.allclose(means[0], [195.65, 140.57, 102.18], atol=0.1)
    assert np.allclose(means[1], [1603.57, 1633.30, 1548.78], atol=5)
    assert np.allclose(means[2], [62.62, 100.80, 62.98], atol=0.1)
