"""The worked example of ``docs/add-a-data-set.md``: another layout, and all that follows from it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from socket_core.config import DataConfig
from socket_core.data.catalogue import load_task
from socket_core.data.readers import READERS, build_index, register
from socket_core.data.survey import survey
from socket_core.errors import ConfigError, DataError
from tests.docs.examples import loaded


@pytest.fixture(autouse=True)
def example() -> Iterator[dict[str, Any]]:
    with loaded("side_by_side_reader.py") as names:
        yield names


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for split, label, value in (
        ("train", "office", 1000),
        ("train", "cafe", 2000),
        ("train", "lobby", 3000),
        ("test", "office", 4000),
        ("test", "cafe", 5000),
    ):
        folder = tmp_path / split / label
        folder.mkdir(parents=True)
        for name in ("a", "b"):
            Image.fromarray(np.full((20, 24, 3), 90, np.uint8)).save(folder / f"{name}_rgb.png")
            Image.fromarray(np.full((20, 24), value, np.uint16)).save(folder / f"{name}_depth.png")
    return tmp_path


def section(root: Path, **values: Any) -> DataConfig:
    kind: Any = "side_by_side"
    return DataConfig(kind=kind, root=str(root), size=16, classes=("office", "cafe"), full_scale=10_000.0, **values)


def test_an_experiment_gets_its_images_from_it(root: Path) -> None:
    task = load_task(section(root), cache=None)
    assert task.classes == ("office", "cafe")
    assert sorted(task.target_train.labels.tolist()) == [0, 0, 1, 1]
    values = {int(label): int(image[0, 0]) for label, image in zip(*_parts(task), strict=True)}
    assert values == {0: 4000, 1: 5000}
    assert [int(pixels[0, 0]) for pixels in task.ti.target.pixels] == [3000, 3000]  # lobby: outside the task, paired


def _parts(task: Any) -> tuple[Any, Any]:
    return task.target_test.labels, task.target_test.images.pixels


def test_a_file_of_neither_half_is_named(root: Path) -> None:
    (root / "train" / "cafe" / "c.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"c\.png: its name says neither half"):
        build_index(section(root))
    found = survey(section(root))
    assert [path.name for path, _ in found.skipped] == ["c.png"]
    assert found.classes["cafe"]["train"] == {"rgb": 2, "target": 2, "pairs": 2}


def test_a_split_that_is_not_there_is_named(root: Path) -> None:
    with pytest.raises(DataError, match="expected a folder of classes"):
        build_index(section(root, test_split="validation"))


@pytest.mark.parametrize("kind", ["folder", "scenes", "two words"])
def test_a_kind_that_is_taken_or_no_name_is_refused(kind: str) -> None:
    before = dict(READERS)
    with pytest.raises(ConfigError):
        register(kind)(lambda cfg, root, faults: build_index(cfg))
    assert before == READERS
