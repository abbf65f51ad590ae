"""List files: numbers become classes, pairs go line by line, and every wrong line is named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from socket_core.config import DataConfig, parse_experiment
from socket_core.data.catalogue import load_task
from socket_core.errors import ConfigError, DataError
from tests.core.disk_builders import LISTS, grey, listed, millimetres, rotated


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Six lists and their images."""
    return listed(tmp_path / "set")


def _config(root: Path, **values: Any) -> DataConfig:
    raw = {"kind": "lists", "root": str(root), "size": 16, "classes": ["b", "a"], "full_scale": 1e4, "lists": LISTS}
    return parse_experiment({"data": raw | values}, where="test").data


def _edit(root: Path, name: str, number: int, text: str | None) -> None:
    path = root / f"{name}.txt"
    lines = path.read_text().splitlines()
    lines[number - 1 : number] = [] if text is None else [text]
    path.write_text("\n".join(lines))


def test_a_task_of_lists(root: Path, tmp_path: Path) -> None:
    task = load_task(_config(root), cache=tmp_path / "cache")
    assert task.classes == ("b", "a")
    for part, first in ((task.source_train, 1), (task.source_test, 5)):
        np.testing.assert_array_equal(part.labels, [0, 1, 0, 1])
        np.testing.assert_array_equal(part.images.pixels[:, 0, 0, 0], first + np.arange(4))
    np.testing.assert_array_equal(task.target_test.images.pixels[:, 8, 8] // 100, [13, 14, 15, 16])
    np.testing.assert_array_equal(task.ti.target.pixels[:, 8, 8] // 50, task.ti.rgb.pixels[:, 0, 0, 0])
    assert task.sensors is None


def test_absolute_paths_and_rotated_depth(root: Path, tmp_path: Path) -> None:
    far = grey(tmp_path / "elsewhere.png", rotated(millimetres(4000)))
    for path in [*root.glob("d/*.png"), *root.glob("ti/target/*.png")]:
        grey(path, rotated(millimetres(3000)))
    _edit(root, "target_train", 1, f"{far} 0")
    task = load_task(_config(root, rotated=True), cache=tmp_path / "cache")
    np.testing.assert_array_equal(task.target_train.images.pixels[:, 8, 8] // 1000, [4, 3, 3, 3])


@pytest.mark.parametrize(
    ("name", "number", "text", "message"),
    [
        ("source_train", 2, "rgb/view 2.png", r"source_train\.txt: line 2: .*from 0 to 1"),
        ("source_train", 3, "rgb/view 3.png 2", r"source_train\.txt: line 3: .*from 0 to 1, found 'rgb/view 3\.png 2'"),
        ("target_test", 1, "d/view 13.png -1", r"target_test\.txt: line 1"),
        ("source_test", 4, "rgb/absent.png 0", r"source_test\.txt: line 4: expected the file .*absent\.png"),
        ("source_test", 4, f"rgb/{'long' * 99}.png 0", r"source_test\.txt: line 4: expected the file .*long\.png"),
        (
            "target_train",
            4,
            "d/view 9.png 0",
            r"line 4: 'd/view 9\.png' is listed already, in target_train\.txt, line 1",
        ),
        ("target_test", 1, "d/view 9.png 0", r"target_test\.txt: line 1: .*already, in target_train\.txt, line 1"),
        ("ti_rgb", 2, "rgb/view 1.png 0", r"ti_rgb\.txt: line 2: 'rgb/view 1\.png' .* in source_train\.txt, line 1"),
        ("ti_target", 3, "d/view 13.png", r"ti_target\.txt: line 3: .* in target_test\.txt, line 1"),
        ("ti_target", 3, None, r"ti_target\.txt: expected as many lines as in ti_rgb\.txt, 3, found 2"),
    ],
)
def test_a_wrong_line_is_named(root: Path, name: str, number: int, text: str | None, message: str) -> None:
    _edit(root, name, number, text)
    with pytest.raises(DataError, match=message) as caught:
        load_task(_config(root), cache=None)
    assert caught.value.remedy


def test_wrong_lines_are_left_out_and_pairs_stay_pairs(root: Path) -> None:
    (root / "ti/rgb/1.png").unlink()
    (root / "ti/target/2.png").write_bytes(b"no image")
    _edit(root, "source_train", 3, "rgb/view 3.png 9")
    task = load_task(_config(root, skip_broken=True), cache=None)
    assert (len(task.source_train), len(task.ti.rgb), len(task.ti.target)) == (3, 1, 1)
    assert int(task.ti.target.pixels[0, 8, 8]) // 50 == int(task.ti.rgb.pixels[0, 0, 0, 0]) == 0


def test_a_list_that_is_not_named_not_there_or_empty(root: Path) -> None:
    with pytest.raises(ConfigError, match=r"data\.lists\.target_test: expected the name"):
        load_task(_config(root, lists=LISTS | {"target_test": ""}), cache=None)
    with pytest.raises(DataError, match=r"nowhere\.txt: expected a list file"):
        load_task(_config(root, lists=LISTS | {"ti_rgb": "nowhere.txt"}), cache=None)
    (root / "ti_rgb.txt").write_text("\n \n")
    with pytest.raises(DataError, match=r"ti_rgb\.txt: expected lines, found none"):
        load_task(_config(root), cache=None)


def test_a_class_without_images_is_named(root: Path) -> None:
    with pytest.raises(DataError, match="class 'c', found none"):
        load_task(_config(root, classes=["b", "a", "c"]), cache=None)


@pytest.mark.parametrize("values", [{"source_fraction": 0.5}, {"ti_classes": ["x"]}])
def test_what_lists_already_say_is_refused(root: Path, values: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="lists say who has what"):
        _config(root, **values)
