"""Writing a release: only what an owner confirms and what fits, whole or not at all."""

from __future__ import annotations

import math
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from socket_core.errors import ReleaseError
from socket_core.release import read_info, read_release, write_release
from tests.core.release_builders import ARGS, KEY, OTHER, PUBLIC, contents, make_network


@pytest.mark.parametrize("answer", [False, None, 1, "yes"])
def test_owner_has_to_confirm(tmp_path: Path, network: Any, answer: object) -> None:
    with pytest.raises(ReleaseError, match="BatchNorm statistics.*easier to invert") as caught:
        write_release(tmp_path / "new" / "r", network, KEY, **{**ARGS, "confirm_batchnorm": answer})
    assert "--confirm-batchnorm-statistics" in caught.value.remedy
    assert not list(tmp_path.iterdir())


BAD_VALUES: list[tuple[str, Any, str]] = [
    ("name", "", "a name"),
    ("name", "x" * 201, "a name"),
    ("name", "bell\x07", "printable"),
    ("name", "\ud800", "does not fit its field"),
    ("name", 3, "does not fit its field"),
    ("created_at", -1, "created_at"),
    ("created_at", 2**60, "created_at"),
    ("created_at", 2**63, "does not fit its field"),
    ("bottleneck_dim", 0, "bottleneck_dim"),
    ("bottleneck_dim", 65537, "bottleneck_dim"),
    ("bottleneck_dim", 9, "needs"),
    ("backbone", "", "a backbone name"),
    ("backbone", "nope", "unknown backbone"),
    ("backbone", "vgg11_bn", "lacks tensor"),
    ("classes", (), "1 to 100000 classes"),
    ("classes", ("a", "b", ""), "class names"),
    ("classes", ("a", "b", "b"), "all differ.*'b'"),
    ("classes", ("a", "b"), "needs"),
    ("classes", tuple(map(str, range(100_001))), "1 to 100000 classes"),
    ("image_size", 0, "image_size"),
    ("image_size", 4097, "image_size"),
    ("mean", (0.0, 0.0), "3 finite channel means"),
    ("mean", (0.0, 0.0, math.nan), "3 finite channel means"),
    ("std", (1.0, 1.0, 0.0), "3 finite channel stds above 0"),
    ("std", (1.0, 1.0, math.inf), "3 finite channel stds"),
    ("source_accuracy", 1.01, "source_accuracy"),
    ("source_accuracy", math.nan, "source_accuracy"),
    ("best_epoch", 21, "best_epoch"),
    ("epochs", -1, "does not fit its field"),
]


@pytest.mark.parametrize(("field", "value", "match"), BAD_VALUES)
def test_bad_values_are_not_written(tmp_path: Path, network: Any, field: str, value: Any, match: str) -> None:
    with pytest.raises(ReleaseError, match=match) as caught:
        write_release(tmp_path / "r", network, KEY, **{**ARGS, field: value})
    assert caught.value.where
    assert caught.value.remedy
    assert len(str(caught.value)) < 1500
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_non_finite_weights_are_not_written(tmp_path: Path, value: float) -> None:
    network = make_network()
    network.bottleneck[1].running_var[2] = value
    with pytest.raises(ReleaseError, match=r"'bottleneck.1.running_var' holds NaN or infinity"):
        write_release(tmp_path / "r", network, KEY, **ARGS)
    assert not list(tmp_path.iterdir())


def test_other_dtypes_are_not_written(tmp_path: Path) -> None:
    with pytest.raises(ReleaseError, match="is of torch.float64"):
        write_release(tmp_path / "r", make_network().double(), KEY, **ARGS)
    assert not list(tmp_path.iterdir())


def test_older_release_is_replaced(folder: Path, network: Any) -> None:
    before = read_info(folder, PUBLIC)[0]
    link = folder.with_name("current")
    link.symlink_to(folder)
    info = write_release(link, network, OTHER, **{**ARGS, "name": "second"})
    assert info.name == "second" != before.name
    assert link.is_symlink()
    assert read_release(folder, OTHER.public_key()).info == info
    assert sorted(path.name for path in folder.parent.iterdir()) == ["current", "release"]


@pytest.mark.parametrize("kind", ["foreign file", "file"])
def test_anything_else_is_not_replaced(tmp_path: Path, network: Any, kind: str) -> None:
    target = tmp_path / "mine"
    kept = target if kind == "file" else target / "thesis.tex"
    kept.parent.mkdir(exist_ok=True)
    kept.write_text("years of work")
    with pytest.raises(ReleaseError, match=f"found '{kept.name}', which replacing would delete"):
        write_release(target, network, KEY, **ARGS)
    assert kept.read_text() == "years of work"
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("fail_at", [1, 2])
def test_failed_replacement_keeps_the_old_release(
    folder: Path, network: Any, monkeypatch: pytest.MonkeyPatch, fail_at: int
) -> None:
    before, real, calls = contents(folder), Path.rename, []

    def rename(source: Path, target: Path) -> None:
        calls.append(source)
        if len(calls) == fail_at:
            raise OSError(5, "Input/output error")
        real(source, target)

    monkeypatch.setattr(Path, "rename", rename)
    with pytest.raises(ReleaseError, match="cannot write the release: Input/output error"):
        write_release(folder, network, KEY, **{**ARGS, "name": "second"})
    assert contents(folder) == before
    assert list(folder.parent.iterdir()) == [folder]


def test_full_disk_leaves_nothing(tmp_path: Path, network: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ReleaseError, match="No space left"):
        write_release(tmp_path / "r", network, KEY, **ARGS)
    assert not list(tmp_path.iterdir())


def test_release_folder_follows_the_umask(tmp_path: Path, network: Any) -> None:
    before = os.umask(0o022)
    try:
        write_release(tmp_path / "r", network, KEY, **ARGS)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "r").stat().st_mode) == 0o755
