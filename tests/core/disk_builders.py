"""Tiny data sets on disk, each in the true format of its kind."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

HEIGHT, WIDTH = 6, 8


def colour(path: Path, value: int, *, width: int = WIDTH) -> Path:
    """A flat RGB image."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((HEIGHT, width, 3), value % 256, np.uint8)).save(path)
    return path


def millimetres(start: int) -> NDArray[np.uint16]:
    """A depth map in which every value differs from its neighbours in the last bit; one hole."""
    depth = (start + np.arange(HEIGHT * WIDTH, dtype=np.uint16)).reshape(HEIGHT, WIDTH).astype(np.uint16)
    depth[0, 0] = 0
    return depth


def rotated(depth: NDArray[np.uint16]) -> NDArray[np.uint16]:
    """Bits turned left by three places, as SUN RGB-D stores depth."""
    wide = depth.astype(np.uint32)
    return ((wide << 3 | wide >> 13) & 0xFFFF).astype(np.uint16)


def grey(path: Path, pixels: NDArray[np.generic]) -> Path:
    """A single-channel image, 8 or 16 bits."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


def sun_sample(root: Path, name: str, label: str, start: int) -> Path:
    """One sample of SUN RGB-D: ``root/name/{image, depth_bfx, depth, scene.txt}``."""
    folder = root / name
    stem = folder.name
    colour(folder / "image" / f"{stem}.jpg", start)
    for part in ("depth_bfx", "depth"):
        grey(folder / part / f"{stem}_abs.png", rotated(millimetres(start)))
    (folder / "scene.txt").write_text(label)
    return folder


SUN_PARTS = {
    "kv1": "kv1/NYUdata/NYU{:04}",
    "kv2": "kv2/kinect2data/{:06}_2014-05-26",
    "realsense": "realsense/lg/2014_{}",
    "xtion": "xtion/xtion_align_data/2014_{}",
}


def sun(root: Path, per_class: int = 4) -> Path:
    """Four sensors, each with ``per_class`` offices and kitchens (task) and gyms and attics (other)."""
    number = 0
    for pattern in SUN_PARTS.values():
        for label in ("office", "kitchen", "gym", "attic"):
            for _ in range(per_class):
                number += 1
                sun_sample(root, pattern.format(number), label, 1000 + 100 * number)
    return root


def diml(root: Path, below: str = "LR") -> Path:
    """Two task classes and one other, two views each in both splits."""
    number = 0
    for split in ("train", "test"):
        for label in ("cafe", "library", "church"):
            for _ in range(2):
                number += 1
                folder = root / split / below / label
                colour(folder / "color" / f"in_{number:02}_c.png", number)
                grey(folder / "depth_filled" / f"in_{number:02}_depth_filled.png", millimetres(100 * number))
    return root


def epfl(root: Path, bits: int = 8) -> Path:
    """Two task classes and one other, four pairs each."""
    for label in ("field", "forest", "urban"):
        for i in range(4):
            colour(root / label / f"{i:04}_rgb.tiff", 20 * i)
            kind = np.uint8 if bits == 8 else np.uint16
            grey(root / label / f"{i:04}_nir.tiff", np.full((HEIGHT, WIDTH), 20 * i + 1, kind) * kind(bits // 8))
    return root


def listed(root: Path) -> Path:
    """Six lists: two classes with two images for each of the first four, three pairs; see ``lists`` in the tests."""
    number = 0
    for name, part in (("source_train", "rgb"), ("source_test", "rgb"), ("target_train", "d"), ("target_test", "d")):
        lines = []
        for i in range(4):
            number += 1
            path = root / part / f"view {number}.png"
            colour(path, number) if part == "rgb" else grey(path, millimetres(100 * number))
            lines.append(f"{path.relative_to(root)} {i % 2}")
        (root / f"{name}.txt").write_text("\n".join(lines) + "\n")
    for half in ("rgb", "target"):
        lines = []
        for i in range(3):
            path = root / "ti" / half / f"{i}.png"
            colour(path, i) if half == "rgb" else grey(path, millimetres(50 * i + 1))
            lines.append(f"{path.relative_to(root)} {7 + i}")
        (root / f"ti_{half}.txt").write_text("\n".join(lines) + "\n")
    return root


LISTS = {
    name: f"{name}.txt"
    for name in ("source_train", "source_test", "target_train", "target_test", "ti_rgb", "ti_target")
}


def wide_colour_tiff(path: Path) -> Path:
    """An RGB TIFF with 16 bits a channel, which Pillow reads but cannot write."""
    data = (np.arange(HEIGHT * WIDTH * 3, dtype="<u2") * 300).tobytes()
    entries = [
        *((256, 3, 1, WIDTH), (257, 3, 1, HEIGHT), (258, 3, 3, 134), (259, 3, 1, 1), (262, 3, 1, 2)),
        *((273, 4, 1, 140), (277, 3, 1, 3), (278, 3, 1, HEIGHT), (279, 4, 1, len(data)), (284, 3, 1, 1)),
    ]
    head = b"II*\0" + struct.pack("<IH", 8, len(entries))
    for tag, kind, count, value in entries:
        short = kind == 3 and count == 1
        head += struct.pack("<HHIHH" if short else "<HHII", tag, kind, count, *((value, 0) if short else (value,)))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(head + struct.pack("<I3H", 0, 16, 16, 16) + data)
    return path
