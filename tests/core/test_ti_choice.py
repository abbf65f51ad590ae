"""Which TI pairs a task works with: a share of its own, or those of another domain."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from socket_core.config import DataConfig, load_experiment, parse_experiment
from socket_core.data.catalogue import load_task
from socket_core.data.ti_choice import choose_pairs
from socket_core.data.types import Images, Pairs
from socket_core.errors import ConfigError, DataError
from tests.core.builders import SCENE_COUNTS, SCENE_SIDE, experiment, rgb_images, scenes_task
from tests.core.disk_builders import sun


def numbered(count: int) -> Pairs:
    """Pair ``i`` is flat: ``i`` in its RGB half, ``100 i`` in the other."""
    values = np.arange(count)[:, None, None] * np.ones((1, 4, 4))
    rgb = np.repeat(values[..., None], 3, axis=3).astype(np.uint8)
    return Pairs(Images(rgb, 255.0), Images((100 * values).astype(np.uint16), 10_000.0))


def data(**values: Any) -> DataConfig:
    """A ``data`` section."""
    return parse_experiment({"data": values}, where="test").data


def chosen(count: int, **values: Any) -> list[int]:
    """Which of ``count`` pairs are used; fails if halves were parted."""
    pairs = choose_pairs(numbered(count), data(**values), None)
    rgb, target = pairs.rgb.pixels[:, 0, 0, 0].astype(int), pairs.target.pixels[:, 0, 0].astype(int)
    assert (target == 100 * rgb).all()
    assert (pairs.rgb.full_scale, pairs.target.full_scale) == (255.0, 10_000.0)
    return [int(value) for value in rgb]


@pytest.mark.parametrize(
    ("count", "fraction", "left"), [(40, 0.1, 4), (40, 0.3, 12), (7, 0.5, 4), (9, 0.99, 9), (3, 0.01, 1), (1, 0.2, 1)]
)
def test_a_fraction_is_exact_in_order_and_without_repeats(count: int, fraction: float, left: int) -> None:
    used = chosen(count, ti_fraction=fraction)
    assert len(used) == left
    assert used == sorted(set(used))
    assert set(used) <= set(range(count))


def test_which_pairs_are_drawn_depends_on_the_datas_seed_alone() -> None:
    first = chosen(40, ti_fraction=0.3)
    assert chosen(40, ti_fraction=0.3) == first
    assert chosen(40, ti_fraction=0.3, size=64, modality="nir") == first
    assert chosen(40, ti_fraction=0.3, seed=1) != first
    assert first != list(range(12)), "the first ones would be of few classes where files are sorted"


def test_all_pairs_are_the_very_pairs() -> None:
    own = numbered(5)
    assert choose_pairs(own, data(), None) is own


@pytest.mark.parametrize("modality", ["depth", "nir"])
def test_pairs_of_the_scenes_are_those_of_the_seed(modality: str) -> None:
    cfg = data(ti_from="scenes", seed=5, size=SCENE_SIDE, modality=modality, scenes=SCENE_COUNTS)
    found, expected = choose_pairs(numbered(5), cfg, None), scenes_task(modality=modality).ti
    assert np.array_equal(found.rgb.pixels, expected.rgb.pixels)
    assert np.array_equal(found.target.pixels, expected.target.pixels)
    assert found.target.full_scale == expected.target.full_scale


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Another domain in the common layout: view ``v`` of two splits and classes holds ``v`` and ``100 v``."""
    root, value = tmp_path / "other", 0
    for split, label in (("train", "office"), ("train", "gym"), ("test", "gym")):
        for modality in ("rgb", "depth"):
            (root / split / modality / label).mkdir(parents=True)
        for i in range(2):
            value += 1
            Image.fromarray(np.full((6, 8, 3), value, np.uint8)).save(root / split / "rgb" / label / f"{i}.png")
            depth = np.full((6, 8), 100 * value, np.uint16)
            Image.fromarray(depth).save(root / split / "depth" / label / f"{i}.png")
    return root


def of_folder(root: Path, **values: Any) -> list[int]:
    """What the RGB halves hold; fails if halves do not belong together."""
    cfg = data(ti_from="folder", ti_root=str(root), size=16, full_scale=10_000.0, **values)
    pairs = choose_pairs(numbered(5), cfg, None)
    rgb, target = pairs.rgb.pixels[:, 0, 0, 0].astype(int), pairs.target.pixels[:, 0, 0].astype(int)
    assert (target == 100 * rgb).all()
    assert pairs.rgb.pixels.shape[1:] == (16, 16, 3)
    return [int(value) for value in rgb]


def test_pairs_of_a_folder_are_all_of_it_whatever_the_task_is_about(folder: Path) -> None:
    train = of_folder(folder, classes=["office"])
    assert sorted(train) == [1, 2, 3, 4]
    assert sorted(of_folder(folder, ti_splits=["train", "test"])) == [1, 2, 3, 4, 5, 6]
    half = of_folder(folder, ti_fraction=0.5)
    assert len(half) == 2
    assert set(half) < set(train)


def test_a_task_takes_pairs_of_another_folder_and_keeps_its_own_images(folder: Path) -> None:
    section = {"seed": 5, "size": SCENE_SIDE, "scenes": SCENE_COUNTS, "ti_from": "folder", "ti_root": str(folder)}
    task = load_task(data(**section, full_scale=10_000.0), cache=None)
    assert sorted(task.ti.rgb.pixels[:, 0, 0, 0]) == [1, 2, 3, 4]
    own = scenes_task()
    assert np.array_equal(task.target_test.images.pixels, own.target_test.images.pixels)
    assert np.array_equal(task.source_train.images.pixels, own.source_train.images.pixels)


def test_a_folder_that_is_missing_or_not_paired_is_named(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="absent"):
        of_folder(tmp_path / "absent")
    lone = folder / "train" / "depth" / "gym" / "0.png"
    wide = np.full((6, 9), 300, np.uint16)
    lone.unlink()
    Image.fromarray(wide).save(lone)
    with pytest.raises(DataError, match=r"gym/0\.png.* 8x6 and 9x6"):
        of_folder(folder)
    lone.unlink()
    with pytest.raises(DataError, match=r"rgb/gym/0\.png: expected a target image"):
        of_folder(folder)


def test_a_folder_must_be_named_and_is_refused_where_it_is_not_read() -> None:
    with pytest.raises(ConfigError, match="need a folder") as caught:
        choose_pairs(numbered(2), data(ti_from="folder"), None)
    assert caught.value.where == "data.ti_root"
    for other in ({}, {"ti_from": "scenes"}):
        with pytest.raises(ConfigError, match="ti_root is read with ti_from: folder only"):
            data(ti_root="/pairs", **other)


@pytest.mark.parametrize("change", [{"ti_fraction": 0.5}, {"ti_from": "scenes"}])
def test_pairs_of_data_with_sensors_are_chosen_by_sensor(tmp_path: Path, change: dict[str, Any]) -> None:
    section = {"kind": "sunrgbd", "root": str(sun(tmp_path / "SUN")), "size": SCENE_SIDE, "full_scale": 10_000.0}
    section |= {"classes": ["office", "kitchen"], "scenes": SCENE_COUNTS, "ti_splits": ["train", "test"]}
    with pytest.raises(ConfigError, match="chosen by sensor") as caught:
        load_task(data(**section, **change), cache=None)
    assert "ti_sensors" in caught.value.remedy


@pytest.mark.parametrize(
    "change", [{"ti_fraction": 0.5}, {"ti_from": "scenes"}, {"ti_from": "folder", "ti_root": "/pairs"}]
)
def test_the_choice_of_pairs_makes_another_experiment_of_the_same_source(change: dict[str, Any]) -> None:
    other = experiment(**{f"data__{key}": value for key, value in change.items()})
    assert other.source_digest() == experiment().source_digest()
    assert other.digest() != experiment().digest()


def test_relative_paths_are_found_from_the_file_that_writes_them(tmp_path: Path) -> None:
    base, own, inner = tmp_path / "shared" / "base.yaml", tmp_path / "own.yaml", tmp_path / "a" / "inner.yaml"
    for path, text in (
        (base, "name: base\ndata: {ti_from: folder, ti_root: ../pairs}\nnetwork: {weights: net.pth}"),
        (own, "extends: shared/base.yaml\nname: own\ndata: {ti_root: here}\nnetwork: {weights: ../w.pth}"),
        (inner, "extends: ../shared/base.yaml\nname: inner"),
    ):
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    paths = {p: (e.data.ti_root, e.network.weights) for p in (base, own, inner) for e in [load_experiment(p)]}
    inherited = (str(tmp_path / "pairs"), str(tmp_path / "shared" / "net.pth"))
    assert paths == {
        base: inherited,
        own: (str(tmp_path / "here"), str(tmp_path.parent / "w.pth")),
        inner: inherited,
    }


def test_pixels_of_own_pairs_are_not_copied_by_a_choice_of_all() -> None:
    pairs = Pairs(rgb_images(3), rgb_images(3))
    assert choose_pairs(pairs, data(ti_fraction=1.0), None).rgb.pixels is pairs.rgb.pixels
