"""EPFL RGB-NIR: TIFF pairs by name, 8 and 16 bits, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from socket_core.config import DataConfig, parse_experiment
from socket_core.data.catalogue import load_task
from socket_core.data.decode import decode
from socket_core.errors import ConfigError, DataError
from tests.core.disk_builders import colour, epfl, grey, wide_colour_tiff


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Three classes of four pairs, 8 bits."""
    return epfl(tmp_path / "nirscene1")


def _config(root: Path, **values: Any) -> DataConfig:
    raw = {"kind": "epfl_nir", "modality": "nir", "root": str(root), "size": 16, "classes": ["field", "forest"]}
    return parse_experiment({"data": raw | {"ti_splits": ["train", "test"]} | values}, where="test").data


def test_a_task_of_pairs(root: Path) -> None:
    task = load_task(_config(root), cache=None)
    assert (len(task.target_train), len(task.target_test), len(task.ti)) == (6, 2, 4)
    assert task.ti.target.pixels.dtype == np.uint8
    np.testing.assert_array_equal(task.ti.target.pixels[:, 0, 0], task.ti.rgb.pixels[:, 0, 0, 0] + 1)
    assert len(load_task(_config(root, test_fraction=0.5), cache=None).target_test) == 4


def test_16_bit_infrared_stays_16_bit(tmp_path: Path) -> None:
    root = epfl(tmp_path / "wide", bits=16)
    deep = np.arange(48, dtype=np.uint16).reshape(6, 8) * 1361 + 7
    grey(root / "urban/0000_nir.tiff", deep.astype(np.uint16))
    np.testing.assert_array_equal(decode(root / "urban/0000_nir.tiff", "nir"), deep)
    with pytest.raises(DataError, match=r"data\.full_scale"):
        load_task(_config(root), cache=None)
    task = load_task(_config(root, full_scale=65535.0), cache=None)
    assert task.ti.target.pixels.dtype == np.uint16
    assert task.ti.target.full_scale == 65535


def test_one_channel_stored_three_times_is_one_channel(root: Path) -> None:
    path = root / "urban/0001_nir.tiff"
    colour(path, 21)
    task = load_task(_config(root), cache=None)
    np.testing.assert_array_equal(task.ti.target.pixels[:, 0, 0], task.ti.rgb.pixels[:, 0, 0, 0] + 1)
    pixels = np.full((6, 8, 3), 21, np.uint8)
    pixels[3, 3, 1] = 22
    Image.fromarray(pixels).save(path)
    with pytest.raises(DataError, match=r"0001_nir\.tiff: expected one channel"):
        load_task(_config(root), cache=None)


def _spoil(root: Path, fault: str) -> str:
    """Spoil one pair outside the task; the path that messages must name."""
    rgb, nir = root / "urban/0002_rgb.tiff", root / "urban/0002_nir.tiff"
    if fault == "half":
        nir.unlink()
        return str(rgb)
    if fault == "twins":
        colour(rgb.with_suffix(".tif"), 1)
        return str(rgb.parent)
    if fault == "wide":
        return str(wide_colour_tiff(rgb))
    if fault == "cut":
        nir.write_bytes(nir.read_bytes()[:30])
    elif fault == "bits":
        grey(nir, np.ones((6, 8), np.uint16))
    return str(nir)


@pytest.mark.parametrize("fault", ["half", "twins", "wide", "cut"])
def test_a_broken_pair_is_named_or_left_out_whole(root: Path, fault: str) -> None:
    named = _spoil(root, fault)
    with pytest.raises(DataError) as caught:
        load_task(_config(root), cache=None)
    assert named in str(caught.value)
    assert caught.value.remedy
    task = load_task(_config(root, skip_broken=True), cache=None)
    assert (len(task.ti.rgb), len(task.ti.target)) == (3, 3)
    np.testing.assert_array_equal(task.ti.target.pixels[:, 0, 0], task.ti.rgb.pixels[:, 0, 0, 0] + 1)


def test_mixed_bit_depths_are_named(root: Path) -> None:
    named = _spoil(root, "bits")
    with pytest.raises(DataError, match="expected one bit depth") as caught:
        load_task(_config(root), cache=None)
    assert named in str(caught.value)
    task = load_task(_config(root, skip_broken=True), cache=None)
    assert len(task.ti) == 3
    assert task.ti.target.pixels.dtype == np.uint8


def test_other_names_and_empty_classes_are_refused(root: Path) -> None:
    stray = colour(root / "urban/0004.png", 1)
    with pytest.raises(DataError, match=r"0004\.png: expected a file named ID_rgb\.tiff or ID_nir\.tiff"):
        load_task(_config(root), cache=None)
    stray.unlink()
    (root / "hollow").mkdir()
    with pytest.raises(DataError, match="hollow: expected images of the class, found none"):
        load_task(_config(root), cache=None)
    with pytest.raises(DataError, match="absent: expected class folders"):
        load_task(_config(root / "absent"), cache=None)


def test_infrared_is_not_depth(root: Path) -> None:
    with pytest.raises(ConfigError, match="kind epfl_nir is about nir: set modality: nir"):
        _config(root, modality="depth")
    with pytest.raises(ConfigError, match="rotated is about depth"):
        _config(root, rotated=True)
