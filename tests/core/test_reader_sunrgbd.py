"""SUN RGB-D: rotated depth, samples at any level, four sensors, and the held-out split that is ours."""

from __future__ import annotations

import dataclasses
import itertools
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from socket_core.config import DataConfig, Experiment, parse_experiment
from socket_core.data.catalogue import load_task, split_task
from socket_core.data.decode import decode, decode_many
from socket_core.data.index import Faults
from socket_core.data.readers.sunrgbd import SENSORS, STORED, TASK, build_index
from socket_core.errors import ConfigError, DataError
from tests.core.disk_builders import colour, grey, millimetres, rotated, sun, sun_sample

CLASSES = ["office", "kitchen"]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Four sensors with four views of each of four classes."""
    return sun(tmp_path / "SUNRGBD")


def _config(root: Path, **values: Any) -> DataConfig:
    raw = {"kind": "sunrgbd", "root": str(root), "size": 16, "classes": CLASSES, "full_scale": 10000.0}
    raw["ti_splits"] = ["train", "test"]
    return parse_experiment({"data": raw | values}, where="test").data


def _sites(number: int) -> Experiment:
    raw = {"data": {"kind": "sunrgbd"}, "federation": {"partition": "sensor", "sites": number, "quorum": 1}}
    return parse_experiment(raw, where="test")


def test_rotation_is_undone_to_the_last_bit(tmp_path: Path) -> None:
    for start in (1, 700, 8191, 19_000):
        depth = millimetres(start)
        pixels = decode(grey(tmp_path / "a.png", rotated(depth)), "depth", STORED)
        assert pixels.dtype == np.uint16
        np.testing.assert_array_equal(pixels, depth)


def test_depth_that_was_never_rotated_is_refused_by_name(tmp_path: Path) -> None:
    path = grey(tmp_path / "plain.png", millimetres(1500))
    with pytest.raises(DataError, match=r"plain\.png: .*beyond 20 m\n.*data\.rotated to false"):
        decode(path, "depth", STORED)


def test_8_bit_depth_is_refused_by_name(tmp_path: Path) -> None:
    path = grey(tmp_path / "narrow.png", np.ones((6, 8), np.uint8))
    with pytest.raises(DataError, match=r"narrow\.png: expected 16 bits a pixel, found 8"):
        decode(path, "depth", STORED)


def test_a_decoded_cache_knows_of_the_rotation(tmp_path: Path) -> None:
    path, cache = grey(tmp_path / "a.png", rotated(millimetres(1000))), tmp_path / "cache"
    plain = decode_many([path], "depth", 6, cache=cache)
    assert not np.array_equal(plain, decode_many([path], "depth", 6, stored=STORED, cache=cache))
    np.testing.assert_array_equal(plain, decode_many([path], "depth", 6, cache=cache))


def test_samples_are_found_at_any_level_below_their_sensor(root: Path) -> None:
    deep = "xtion/sun3ddata/brown_bm_1/brown_bm_1/0000001-000000000"
    sun_sample(root, deep, "office", 9000)
    index = build_index(root.parent)  # the folder that holds SUNRGBD will do
    assert index.root == root
    assert index.sensors == SENSORS
    assert len(index.views) == 65
    (view,) = [view for view in index.views if view.id == deep]
    assert (view.label, view.sensor) == ("office", "xtion")
    assert view.target == root / deep / "depth_bfx" / "0000001-000000000_abs.png"


def test_the_split_is_stable_and_holds_out_a_share_of_each_class_and_sensor(root: Path) -> None:
    views = build_index(root).views
    held = {view.id for view in views if view.split == "test"}
    assert len(held) == 16  # one of four, for 4 sensors and 4 classes
    shutil.rmtree(root / "kv2")
    fewer = {view.id for view in build_index(root).views if view.split == "test"}
    assert fewer == {name for name in held if not name.startswith("kv2")}


def test_frames_of_one_video_stay_on_one_side(root: Path) -> None:
    for video in ("a", "b", "c"):
        for frame in range(3):
            sun_sample(root, f"xtion/sun3ddata/place/{video}/{frame}", "lab", 2000 + frame)
    splits: dict[str, set[str]] = {}
    for view in build_index(root, test_fraction=0.4).views:
        if "sun3ddata" in view.id:
            splits.setdefault(view.id.rpartition("/")[0], set()).add(view.split)
    assert sorted(map(len, splits.values())) == [1, 1, 1]
    assert set.union(*splits.values()) == {"train", "test"}


def test_a_task_keeps_16_bits_and_pairs(root: Path) -> None:
    task = load_task(_config(root), cache=None)
    assert (len(task.target_train), len(task.target_test), len(task.ti)) == (24, 8, 32)
    assert task.target_train.images.pixels.dtype == np.uint16
    middle = task.ti.target.pixels[:, 8, 8].astype(int) // 100 * 100
    assert 1000 < middle.min() < middle.max() < 8000
    np.testing.assert_allclose(task.ti.rgb.pixels[:, 8, 8, 0], middle % 256, atol=2)


def test_the_published_task_is_the_default() -> None:
    assert len(TASK) == len(set(TASK)) == 17


@pytest.mark.parametrize("number", [1, 3, 5])
def test_one_site_a_sensor_and_no_other_number_of_sites(root: Path, number: int) -> None:
    task = load_task(_config(root), cache=None)
    with pytest.raises(ConfigError, match=r"federation\.sites: .*4 sensors, found \d sites\n.*kv1, kv2, realsense"):
        split_task(task, _sites(number), number)


def test_sites_hold_what_their_own_sensor_took(root: Path) -> None:
    task = load_task(_config(root), cache=None)
    experiment = _sites(4)
    shares = split_task(task, experiment, 4)
    assert [len(share.data.tr) for share in shares] == [6] * 4
    assert [len(share.data.ti) for share in shares] == [8] * 4
    # The builder numbers samples sensor by sensor, and the number is in the depth.
    middles = [share.data.ti.target.pixels[:, 8, 8] for share in shares]
    assert all(one.max() < two.min() for one, two in itertools.pairwise(middles))


def test_sites_by_sensor_need_data_with_sensors_and_enough_of_each(root: Path) -> None:
    with pytest.raises(ConfigError, match=r"partition sensor needs data that name their sensors"):
        parse_experiment({"federation": {"partition": "sensor"}}, where="test")
    task = load_task(_config(root), cache=None)
    with pytest.raises(ConfigError, match="data that name the sensors, found none"):
        split_task(dataclasses.replace(task, sensors=None), _sites(4), 4)
    assert task.sensors is not None
    few = dataclasses.replace(task.sensors, ti=np.zeros(len(task.ti), np.int64))
    with pytest.raises(DataError, match="2 pairs of sensor 'kv2', found 6 and 0"):
        split_task(dataclasses.replace(task, sensors=few), _sites(4), 4)


def test_source_and_target_sensors_are_chosen(root: Path) -> None:
    chosen = {"source_sensors": ["kv1"], "target_sensors": ["kv2", "xtion"]}
    task = load_task(_config(root, **chosen), cache=None)
    assert (len(task.source_train), len(task.target_train), len(task.ti)) == (6, 12, 32)
    assert task.sensors is not None
    assert task.sensors.names == ("kv2", "xtion", "kv1", "realsense")
    experiment = _sites(2)
    with pytest.raises(ConfigError, match=r"data\.ti_sensors: .*kv1, realsense\n.*\[kv2, xtion\]"):
        split_task(task, experiment, 2)
    own = load_task(_config(root, **chosen, ti_sensors=["kv2", "xtion"]), cache=None)
    assert [len(share.data.ti) for share in split_task(own, experiment, 2)] == [8, 8]
    with pytest.raises(ConfigError, match=r"data\.target_sensors: .*found kv3\n.*kv1, kv2, realsense, xtion"):
        load_task(_config(root, target_sensors=["kv3"]), cache=None)


def _spoil(root: Path, fault: str) -> str:
    """Spoil one sample; the path that messages must name."""
    sample = root / "kv1/NYUdata/NYU0009"  # a gym
    depth, image = sample / "depth_bfx" / "NYU0009_abs.png", sample / "image" / "NYU0009.jpg"
    if fault == "half":
        depth.unlink()
        return str(depth.parent)
    if fault == "twins":
        colour(image.with_name("other.jpg"), 1)
        return str(image.parent)
    if fault == "label":
        (sample / "scene.txt").write_text(" \n")
        return str(sample / "scene.txt")
    if fault == "rotation":
        grey(depth, millimetres(1500))
    elif fault == "bits":
        grey(depth, np.ones((6, 8), np.uint8))
    elif fault == "cut":
        depth.write_bytes(depth.read_bytes()[:60])
    elif fault == "size":
        colour(image, 1, width=9)
        return str(image)
    return str(depth)


@pytest.mark.parametrize("fault", ["half", "twins", "label", "rotation", "bits", "cut", "size"])
def test_a_broken_sample_is_named_or_left_out_whole(root: Path, tmp_path: Path, fault: str) -> None:
    named = _spoil(root, fault)
    with pytest.raises(DataError) as caught:
        load_task(_config(root), cache=None)
    assert named in str(caught.value)
    assert caught.value.remedy
    for _ in range(2):  # the second time from what was remembered
        task = load_task(_config(root, skip_broken=True), cache=tmp_path / "cache")
        assert (len(task.ti.rgb), len(task.ti.target), len(task.target_train)) == (31, 31, 24)


def test_faults_of_the_index_are_collected(root: Path) -> None:
    _spoil(root, "label")
    faults = Faults(collect=True)
    index = build_index(root, faults=faults)
    assert len(index.views) == 63
    assert {path.name for path, _ in index.skipped} == {"scene.txt", "NYU0009.jpg", "NYU0009_abs.png"}


def test_a_folder_without_sensors_and_an_empty_class(root: Path) -> None:
    with pytest.raises(DataError, match="expected samples below kv1, kv2, realsense, xtion"):
        build_index(root / "kv1")
    with pytest.raises(DataError, match=f"{root}.*class 'classroom', found none"):
        load_task(_config(root, classes=["office", "classroom"]), cache=None)
