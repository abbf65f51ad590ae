"""Releases over the wire: packed, unpacked into a cache, and refused after any damage at all."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from socket_core.errors import ReleaseError
from socket_core.release import MANIFEST, SIGNATURE, WEIGHTS, pack_release, read_info, read_release, unpack_release
from tests.core.release_builders import FILES, PUBLIC, contents, resign_raw

# Over the wire.


def test_pack_and_unpack(good: Path, tmp_path: Path) -> None:
    files = pack_release(good)
    assert files == contents(good)
    path = unpack_release(files, tmp_path / "cache", PUBLIC)
    assert path == tmp_path / "cache" / read_info(good, PUBLIC)[0].digest
    assert contents(path) == files
    assert read_release(path, PUBLIC).info == read_info(good, PUBLIC)[0]
    before = path.stat().st_ino
    assert unpack_release(files, tmp_path / "cache", PUBLIC) == path
    assert path.stat().st_ino == before, "a sound copy is kept"


def _as_file(path: Path) -> None:
    shutil.rmtree(path)
    path.write_bytes(b"")


def _as_link(path: Path) -> None:
    elsewhere = path.parent.parent / "elsewhere"
    path.rename(elsewhere)
    (elsewhere / WEIGHTS).write_bytes(b"kept")
    path.symlink_to(elsewhere)


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: (path / WEIGHTS).write_bytes((path / WEIGHTS).read_bytes()[:-9]),
        lambda path: (path / WEIGHTS).write_bytes((path / WEIGHTS).read_bytes()[:-1] + b"x"),
        lambda path: (path / SIGNATURE).unlink(),
        lambda path: (path / "more").write_bytes(b""),
        _as_file,
        _as_link,
    ],
    ids=["truncated", "corrupt", "missing", "extra", "file", "link"],
)
def test_damaged_copy_is_replaced(good: Path, tmp_path: Path, damage: Callable[[Path], object]) -> None:
    files, cache = contents(good), tmp_path / "cache"
    path = unpack_release(files, cache, PUBLIC)
    damage(path)
    assert unpack_release(files, cache, PUBLIC) == path
    assert contents(path) == files
    assert sorted(entry.name for entry in cache.iterdir()) == [".lock", path.name]
    if (tmp_path / "elsewhere").exists():
        assert (tmp_path / "elsewhere" / WEIGHTS).read_bytes() == b"kept", "a link is replaced, never followed"


@pytest.mark.parametrize("name", ["../evil", "weights.pkl", "/etc/passwd", ""])
def test_unknown_file_names(good: Path, tmp_path: Path, name: str) -> None:
    with pytest.raises(ReleaseError, match="expected only manifest.binpb"):
        unpack_release({**contents(good), name: b""}, tmp_path / "cache", PUBLIC)
    assert not list(tmp_path.iterdir())


def test_unusable_cache(good: Path, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("")
    with pytest.raises(ReleaseError, match="cannot use the cache folder"):
        unpack_release(contents(good), tmp_path / "cache", PUBLIC)


# Any damage at all.


@settings(max_examples=120, deadline=None)
@given(name=st.sampled_from(FILES), at=st.integers(0, 2**31), flip=st.integers(1, 255))
def test_one_flipped_byte_is_refused(
    good: Path, tmp_path_factory: pytest.TempPathFactory, name: str, at: int, flip: int
) -> None:
    files = contents(good)
    data = bytearray(files[name])
    data[at % len(data)] ^= flip
    files[name] = bytes(data)
    folder = tmp_path_factory.getbasetemp() / "flipped"
    folder.mkdir(exist_ok=True)
    for file, content in files.items():
        (folder / file).write_bytes(content)
    with pytest.raises(ReleaseError):
        read_release(folder, PUBLIC)
    with pytest.raises(ReleaseError):
        unpack_release(files, folder / "cache", PUBLIC)
    assert not (folder / "cache").exists()


@settings(max_examples=150, deadline=None)
@given(data=st.binary(max_size=300), prefix=st.integers(0, 3000))
def test_random_manifests_raise_only_release_errors(
    good: Path, tmp_path_factory: pytest.TempPathFactory, data: bytes, prefix: int
) -> None:
    folder = tmp_path_factory.getbasetemp() / "random"
    folder.mkdir(exist_ok=True)
    files = contents(good)
    for raw in (data, b"\x08\x01" + data, files[MANIFEST][:prefix] + data):
        # Signed by the right key, so that the decoder is reached.
        for name, content in resign_raw(files, raw).items():
            (folder / name).write_bytes(content)
        for check in (lambda: read_release(folder, PUBLIC), lambda: read_info(folder, None)):
            if raw != files[MANIFEST]:
                with pytest.raises(ReleaseError):
                    check()
