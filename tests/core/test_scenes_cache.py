"""The cache of rendered scenes: the same pixels without rendering, healed after damage."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from socket_core.data import scenes, scenes_cache
from socket_core.errors import DataError
from tests.core.builders import scenes_task, task_parts


def test_cache_gives_the_same_pixels_without_rendering(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fresh = scenes_task(tmp_path / "new" / "cache")
    monkeypatch.setattr(scenes, "render", lambda *_, **__: pytest.fail("rendered again"))
    kept = scenes_task(tmp_path / "new" / "cache")
    for name, images in task_parts(fresh).items():
        assert np.array_equal(images.pixels, task_parts(kept)[name].pixels), name
    assert np.array_equal(fresh.target_test.labels, kept.target_test.labels)
    assert kept.source_train.images.pixels.flags.writeable
    assert [p.name for p in (tmp_path / "new" / "cache").iterdir() if p.name.startswith(".")] == []


def test_cached_files_cannot_be_changed_through_the_arrays(tmp_path: Path) -> None:
    scenes_task(tmp_path)
    scenes_task(tmp_path).source_train.images.pixels[:] = 0
    assert scenes_task(tmp_path).source_train.images.pixels.any()


def test_cache_tells_parameters_apart(tmp_path: Path) -> None:
    scenes_task(tmp_path)
    scenes_task(tmp_path, seed=6)
    scenes_task(tmp_path, modality="nir")
    assert len(list(tmp_path.iterdir())) == 3


@pytest.mark.parametrize("damage", ["truncated", "flipped bit", "empty", "missing", "no index", "foreign index"])
def test_damaged_cache_is_rendered_again(tmp_path: Path, damage: str) -> None:
    whole = scenes_task(tmp_path)
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
    healed = scenes_task(tmp_path)
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
        scenes_task(tmp_path / "file")
    assert caught.value.where == str(tmp_path / "file")
    assert caught.value.remedy
