"""Every format that is read, every one that is refused, resizing with holes, and the cache."""

from __future__ import annotations

import hashlib
import io
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from socket_core.data import decode as module
from socket_core.data.decode import check_pair_sizes, decode, decode_many, full_scale_for, original_size, resize
from socket_core.data.loader import Loader, Preprocessing
from socket_core.data.types import Images
from socket_core.errors import ConfigError, DataError

WIDE = (np.arange(20, dtype=np.uint16).reshape(4, 5) * 3277 + 1).astype(np.uint16)  # 1 to 62264, odd steps


def _save(path: Path, pixels: NDArray[np.generic], **options: Any) -> Path:
    Image.fromarray(pixels).save(path, **options)
    return path


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.pgm"])
def test_16_bit_is_exact(tmp_path: Path, name: str) -> None:
    pixels = decode(_save(tmp_path / name, WIDE), "depth")
    assert pixels.dtype == np.uint16
    np.testing.assert_array_equal(pixels, WIDE)


def test_big_endian_tiff_is_exact(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    Image.frombytes("I;16B", (5, 4), WIDE.astype(">u2").tobytes()).save(path)
    assert path.read_bytes()[:2] == b"MM"
    pixels = decode(path, "depth")
    assert pixels.dtype == np.dtype("=u2")
    np.testing.assert_array_equal(pixels, WIDE)


def test_8_bit_is_exact(tmp_path: Path) -> None:
    narrow = np.arange(20, dtype=np.uint8).reshape(4, 5)
    for modality in ("depth", "nir"):
        pixels = decode(_save(tmp_path / "a.png", narrow), modality)
        assert pixels.dtype == np.uint8
        np.testing.assert_array_equal(pixels, narrow)


def test_32_bit_only_if_it_fits(tmp_path: Path) -> None:
    fits = _save(tmp_path / "fits.tif", WIDE.astype(np.int32))
    np.testing.assert_array_equal(decode(fits, "depth"), WIDE)
    for value in (-1, 65536):
        path = _save(tmp_path / "not.tif", np.full((2, 2), value, np.int32))
        with pytest.raises(DataError, match=f"not.tif.*{value}"):
            decode(path, "depth")


def test_colour_formats(tmp_path: Path) -> None:
    colour = np.random.default_rng(0).integers(0, 256, (4, 5, 3), dtype=np.uint8)
    np.testing.assert_array_equal(decode(_save(tmp_path / "a.png", colour), "rgb"), colour)
    flat = np.full((8, 8, 3), (200, 100, 50), np.uint8)
    assert np.abs(decode(_save(tmp_path / "a.jpg", flat, quality=95), "rgb").astype(int) - flat).max() <= 3
    grey = decode(_save(tmp_path / "g.png", colour[..., 0]), "rgb")
    np.testing.assert_array_equal(grey, np.repeat(colour[..., :1], 3, axis=2))
    palette = tmp_path / "p.png"  # per-entry transparency: Pillow would warn
    Image.fromarray(colour).quantize(8).save(palette, transparency=bytes([0, 128] * 4))
    assert decode(palette, "rgb").shape == (4, 5, 3)


def test_exif_orientation_is_applied(tmp_path: Path) -> None:
    colour = np.zeros((8, 16, 3), np.uint8)
    colour[:, :8] = 255  # white left half
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise: the left becomes the top
    path = tmp_path / "a.jpg"
    Image.fromarray(colour).save(path, exif=exif, quality=95)
    pixels = decode(path, "rgb")
    assert pixels.shape == (16, 8, 3)
    assert original_size(path) == (8, 16)
    assert pixels[:6].min() > 200
    assert pixels[10:].max() < 50


@pytest.mark.parametrize(
    ("mode", "name"), [("RGB", "a.png"), ("1", "a.png"), ("P", "a.png"), ("F", "a.tif"), ("LA", "a.png")]
)
def test_depth_of_other_kinds_is_refused(tmp_path: Path, mode: str, name: str) -> None:
    path = tmp_path / name
    Image.new(mode, (4, 4)).save(path)
    with pytest.raises(DataError, match=rf"a\.\w+: .*mode '{mode}'\nWhat to do: .*16-bit PNG"):
        decode(path, "depth")


def test_depth_in_the_colour_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="8-bit colour image, found Pillow mode 'I;16'"):
        decode(_save(tmp_path / "a.png", WIDE), "rgb")


def test_several_frames_are_refused(tmp_path: Path) -> None:
    frame = Image.fromarray(WIDE)
    frame.save(tmp_path / "a.tif", save_all=True, append_images=[frame])
    with pytest.raises(DataError, match="one frame, found 2"):
        decode(tmp_path / "a.tif", "depth")


def test_unreadable_files_are_named(tmp_path: Path) -> None:
    whole = _save(tmp_path / "whole.png", np.random.default_rng(0).integers(0, 9999, (64, 64)).astype(np.uint16))
    (tmp_path / "cut.png").write_bytes(whole.read_bytes()[:-2000])
    (tmp_path / "text.png").write_text("no image")
    (tmp_path / "empty.png").touch()
    for name in ("cut.png", "text.png", "empty.png", "absent.png"):
        with pytest.raises(DataError, match=name):
            decode(tmp_path / name, "depth")


@pytest.mark.parametrize("limit", [12, 4])  # 16 pixels: above the limit (a warning), above twice the limit (an error)
def test_oversized_image_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: int) -> None:
    path = _save(tmp_path / "a.png", np.zeros((4, 4), np.uint8))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    with pytest.raises(DataError, match="scale the image down"):
        decode(path, "depth")


def test_resize_never_mixes_holes_in() -> None:
    for kind, far in ((np.uint16, 60001), (np.uint8, 201)):
        depth = np.full((8, 8), far, kind)
        depth[:, 4:] = 0  # right half without measurement
        depth[0, 0] = 0  # a small hole
        expected = np.full((2, 2), far, kind)
        expected[:, 1] = 0
        np.testing.assert_array_equal(resize(depth, 2, "depth"), expected)
        assert set(np.unique(resize(depth, 3, "depth"))) <= {0, far}
        assert set(np.unique(resize(depth, 13, "depth"))) <= {0, far}


def test_resize_takes_the_mean_over_valid_pixels() -> None:
    depth = np.array([[1000, 1001], [0, 1005]], np.uint16)
    assert int(resize(depth, 1, "depth")[0, 0]) == 1002
    assert int(resize(np.array([[0, 9], [0, 9]], np.uint16), 1, "depth")[0, 0]) == 9  # exactly half is valid
    assert int(resize(np.array([[0, 9], [0, 0]], np.uint16), 1, "depth")[0, 0]) == 0


@pytest.mark.parametrize("value", [1, 32769, 65535])
def test_resize_keeps_16_bit_constants(value: int) -> None:
    for modality in ("depth", "nir"):
        for size in (3, 20):
            small = resize(np.full((7, 11), value, np.uint16), size, modality)
            np.testing.assert_array_equal(small, np.full((size, size), value, np.uint16))


def test_resize_colour_is_antialiased() -> None:
    board = np.indices((32, 32)).sum(axis=0) % 2 * 255
    small = resize(np.repeat(board[..., None], 3, axis=2).astype(np.uint8), 4, "rgb")
    assert small.shape == (4, 4, 3)
    assert np.abs(small.astype(int) - 127).max() <= 12


def test_full_scale(tmp_path: Path) -> None:
    narrow, wide = np.zeros((1, 1), np.uint8), np.zeros((1, 1), np.uint16)
    assert full_scale_for(narrow, None) == 255
    assert full_scale_for(narrow, 200) == 200
    assert full_scale_for(wide, 10000) == 10000
    with pytest.raises(DataError, match=r"data\.full_scale"):
        full_scale_for(wide, None)
    for wrong in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(ConfigError, match=r"data\.full_scale"):
            full_scale_for(wide, wrong)


def test_pairs_of_different_sizes_are_named(tmp_path: Path) -> None:
    one = _save(tmp_path / "one.png", np.zeros((4, 6, 3), np.uint8))
    two = _save(tmp_path / "two.png", np.zeros((4, 6), np.uint16))
    odd = _save(tmp_path / "odd.png", np.zeros((4, 5), np.uint16))
    check_pair_sizes([(one, two)])
    with pytest.raises(DataError, match=r"one\.png and .*odd\.png: .*6x4 and 5x4"):
        check_pair_sizes([(one, two), (one, odd)])


def test_mixed_bit_depths_are_named(tmp_path: Path) -> None:
    paths = [_save(tmp_path / "a.png", WIDE), _save(tmp_path / "b.png", WIDE.astype(np.uint8))]
    with pytest.raises(DataError, match=r"a\.png and .*b\.png: .*uint16 and uint8"):
        decode_many(paths, "depth", 4)
    with pytest.raises(DataError, match="at least one depth image"):
        decode_many([], "depth", 4)


def _forbid(monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on every decoding fails: what still works came from the cache."""

    def fail(*_: object) -> None:
        raise AssertionError("decoded again")

    monkeypatch.setattr(module, "decode", fail)


def test_cache_is_used_and_equal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root, cache = tmp_path / "data", tmp_path / "cache" / "deep"
    root.mkdir()
    paths = [_save(root / f"{i}.png", WIDE + i) for i in range(3)]
    calls: list[tuple[int, int]] = []
    fresh = decode_many(paths, "depth", 4, root=root, cache=cache, progress=lambda *done: calls.append(done))
    assert calls == [(1, 3), (2, 3), (3, 3)]
    assert [file.suffix for file in cache.iterdir()] == [".npy"]
    moved = tmp_path / "moved"
    root.rename(moved)
    _forbid(monkeypatch)
    kept = decode_many([moved / path.name for path in paths], "depth", 4, root=moved, cache=cache)
    assert kept.dtype == np.uint16
    np.testing.assert_array_equal(kept, fresh)
    with pytest.raises(AssertionError, match="decoded again"):
        decode_many([moved / path.name for path in paths], "depth", 5, root=moved, cache=cache)


@pytest.mark.parametrize("again", [False, True])
def test_cached_images_are_mapped_and_cannot_be_changed(tmp_path: Path, again: bool) -> None:
    paths = [_save(tmp_path / f"{i}.png", WIDE + i) for i in range(3)]
    for _ in range(1 + again):
        pixels = decode_many(paths, "depth", 4, cache=tmp_path / "cache")
    assert isinstance(pixels.base, np.memmap)
    assert not pixels.flags.writeable
    np.testing.assert_array_equal(pixels, decode_many(paths, "depth", 4))
    # What takes batches from it copies, and so does not mind.
    images = Images(pixels, 65_535.0)
    loader = Loader(images, Preprocessing((0.5,) * 3, (0.5,) * 3, 1, True), torch.device("cpu"))
    index = np.array([2, 0])
    draw = loader.draw(np.random.default_rng(0), 2)
    memory = Loader(Images(pixels.copy(), 65_535.0), loader.prep, loader.device)
    assert torch.equal(loader.batch(index, draw), memory.batch(index, draw))


def test_a_cached_file_is_what_numpy_writes_and_a_digest(tmp_path: Path) -> None:
    # Files of earlier versions stay readable.
    pixels = decode_many([_save(tmp_path / "a.png", WIDE)], "depth", 4, cache=tmp_path / "cache")
    (file,) = (tmp_path / "cache").iterdir()
    buffer = io.BytesIO()
    np.save(buffer, pixels)
    assert file.read_bytes() == buffer.getvalue() + hashlib.sha256(buffer.getvalue()).digest()


def test_a_set_that_cannot_be_decoded_leaves_nothing_in_the_cache(tmp_path: Path) -> None:
    narrow = _save(tmp_path / "b.png", np.zeros((4, 5), np.uint8))
    with pytest.raises(DataError, match="one bit depth"):
        decode_many([_save(tmp_path / "a.png", WIDE), narrow], "depth", 4, cache=tmp_path / "cache")
    assert not list((tmp_path / "cache").iterdir())


def test_changed_file_is_decoded_again(tmp_path: Path) -> None:
    path = _save(tmp_path / "a.tif", WIDE)
    before = decode_many([path], "depth", 4, cache=tmp_path / "cache")
    stat = path.stat()
    _save(path, WIDE[::-1].copy())
    assert path.stat().st_size == stat.st_size
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))
    after = decode_many([path], "depth", 4, cache=tmp_path / "cache")
    assert not np.array_equal(before, after)


@pytest.mark.parametrize("damage", ["cut", "bit", "empty", "header"])
def test_damaged_cache_is_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, damage: str
) -> None:
    path, cache = _save(tmp_path / "a.png", WIDE), tmp_path / "cache"
    fresh = decode_many([path], "depth", 4, cache=cache).copy()  # the file that it is mapped from is damaged below
    (file,) = cache.iterdir()
    data = bytearray(file.read_bytes())
    if damage == "bit":
        data[-40] ^= 1
    elif damage == "header":
        data[20] ^= 1
    else:
        data = data[: len(data) // 2 if damage == "cut" else 0]
    file.write_bytes(data)
    np.testing.assert_array_equal(decode_many([path], "depth", 4, cache=cache), fresh)
    assert "is damaged" in caplog.text
    _forbid(monkeypatch)
    np.testing.assert_array_equal(decode_many([path], "depth", 4, cache=cache), fresh)


def test_cache_that_cannot_be_written(tmp_path: Path) -> None:
    path = _save(tmp_path / "a.png", WIDE)
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="writable cache folder"):
        decode_many([path], "depth", 4, cache=tmp_path / "file")
    with pytest.raises(DataError, match=r"absent\.png"):
        decode_many([tmp_path / "absent.png"], "depth", 4, cache=tmp_path / "cache")
