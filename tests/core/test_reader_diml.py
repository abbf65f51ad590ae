"""DIML RGB-D: both resolutions' layouts, names with endings, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from socket_core.config import DataConfig, parse_experiment
from socket_core.data.catalogue import load_task
from socket_core.data.readers.diml import build_index
from socket_core.errors import ConfigError, DataError
from tests.core.disk_builders import colour, diml, grey, millimetres


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Three classes with two views in each split, one resolution."""
    return diml(tmp_path / "diml")


def _config(root: Path, **values: Any) -> DataConfig:
    raw = {"kind": "diml", "root": str(root), "size": 16, "classes": ["library", "cafe"], "full_scale": 1e4}
    return parse_experiment({"data": raw | values}, where="test").data


def test_a_task_keeps_16_bits_and_pairs(root: Path) -> None:
    task = load_task(_config(root, ti_splits=["train", "test"]), cache=None)
    assert (len(task.target_train), len(task.target_test), len(task.ti)) == (4, 4, 4)
    assert task.ti.target.pixels.dtype == np.uint16
    np.testing.assert_array_equal(task.ti.target.pixels[:, 8, 8] // 100, task.ti.rgb.pixels[:, 0, 0, 0])
    np.testing.assert_array_equal(task.target_train.labels, [1, 1, 0, 0])


def test_other_layouts_are_the_same_views(root: Path, tmp_path: Path) -> None:
    flat = diml(tmp_path / "flat", below=".")
    for folder in sorted(flat.glob("*/*")):
        (folder / "color").rename(folder / "col")
        (folder / "depth_filled").rename(folder / "depth")
    one, two = build_index(root), build_index(flat)
    assert [(v.id, v.label, v.split) for v in one.views] == [(v.id, v.label, v.split) for v in two.views]
    assert one.views[0].id == "in_01"


def test_two_resolutions_need_a_choice(root: Path) -> None:
    diml(root, below="HR")
    with pytest.raises(
        DataError, match=r"train: expected one resolution, found LR and HR\n.*data\.train_split: train/LR"
    ):
        load_task(_config(root), cache=None)
    chosen = {"train_split": "train/HR", "test_split": "test/HR", "ti_splits": ["train/HR"]}
    assert len(load_task(_config(root, **chosen), cache=None).ti) == 2


def _spoil(root: Path, fault: str) -> str:
    """Spoil one view of the class outside the task; the path that messages must name."""
    folder = root / "train/LR/church"
    depth = sorted((folder / "depth_filled").iterdir())[0]
    image = sorted((folder / "color").iterdir())[0]
    if fault == "half":
        depth.unlink()
        return str(image)
    if fault == "twins":
        colour(image.with_name(image.stem.removesuffix("_c") + ".jpg"), 1)
        return str(image.parent)
    if fault == "bits":
        grey(depth, np.ones((6, 8), np.uint8))
    elif fault == "cut":
        depth.write_bytes(depth.read_bytes()[:60])
    return str(depth)


@pytest.mark.parametrize("fault", ["half", "twins", "bits", "cut"])
def test_a_broken_view_is_named_or_left_out_whole(root: Path, fault: str) -> None:
    named = _spoil(root, fault)
    with pytest.raises(DataError) as caught:
        load_task(_config(root), cache=None)
    assert named in str(caught.value)
    assert caught.value.remedy
    task = load_task(_config(root, skip_broken=True), cache=None)
    assert (len(task.ti.rgb), len(task.ti.target)) == (1, 1)
    np.testing.assert_array_equal(task.ti.target.pixels[:, 8, 8] // 100, task.ti.rgb.pixels[:, 0, 0, 0])


def test_empty_classes_and_missing_folders(root: Path) -> None:
    (root / "train/LR/attic").mkdir()
    with pytest.raises(DataError, match="attic/color: expected images of the class"):
        load_task(_config(root), cache=None)
    (root / "train/LR/attic").rmdir()
    assert len(load_task(_config(root), cache=None).ti) == 2
    with pytest.raises(DataError, match="val: expected the folder of a split"):
        load_task(_config(root, test_split="val"), cache=None)
    with pytest.raises(DataError, match=r"cafe/rgb: expected images of the class.*\n.*data\.rgb_folder"):
        load_task(_config(diml(root.parent / "other"), rgb_folder="rgb"), cache=None)


def test_a_class_in_both_parts_is_refused(root: Path) -> None:
    with pytest.raises(ConfigError, match="test: .*cafe in both classes and ti_classes"):
        _config(root, ti_classes=["church", "cafe"])


def test_depth_is_not_rotated(root: Path) -> None:
    path = root / "train/LR/cafe/depth_filled/in_01_depth_filled.png"
    grey(path, millimetres(6001))
    assert load_task(_config(root), cache=None).target_train.images.pixels.max() == 6048
