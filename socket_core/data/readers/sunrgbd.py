"""SUN RGB-D as it is distributed: ``<sensor>/.../<sample>/{image, depth_bfx, depth}/*`` and ``scene.txt``.

Depth files are 16-bit PNGs whose bits are rotated left by three places; decoding undoes that.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from socket_core.data.decode import Stored
from socket_core.data.index import DataIndex, Faults, View, is_image
from socket_core.data.readers.splits import hashed_split
from socket_core.errors import DataError

SENSORS = ("kv1", "kv2", "realsense", "xtion")
TASK = [
    "bathroom",
    "classroom",
    "computer_room",
    "conference_room",
    "corridor",
    "discussion_area",
    "home_office",
    "idk",
    "kitchen",
    "lab",
    "living_room",
    "office",
    "office_kitchen",
    "printer_room",
    "reception_room",
    "rest_space",
    "study_space",
]
"""The 17 scene classes that all four sensors have: the task of the published experiments."""

STORED = Stored(rotated=True, bits=16)


def build_index(
    root: Path,
    *,
    rgb: str = "image",
    target: str = "depth_bfx",
    splits: tuple[str, str] = ("train", "test"),
    test_fraction: float = 0.25,
    stored: Stored = STORED,
    faults: Faults | None = None,
) -> DataIndex:
    """Lists all samples, sorted by split, class and id; the id is the sample's path below the root.

    Args:
        root: The folder with ``kv1``, ``kv2``, ``realsense``, ``xtion`` (or some of them), or its parent.
        rgb: Folder of a sample that holds its RGB image.
        target: Folder of a sample that holds its depth: ``depth_bfx`` (holes filled) or ``depth``.
        splits: Names of the training and the test split.
        test_fraction: Share of each sensor's and class's images that is held out; see :func:`hashed_split`.
        stored: How depth files hold their values.
        faults: Takes faulty files in; by default the first of them is an error.

    Raises:
        DataError: No sensor's folder, a sample without label, or not exactly one file for a half.
    """
    faults = faults or Faults()
    root = root / "SUNRGBD" if (root / "SUNRGBD").is_dir() else root
    views: list[View] = []
    for sensor in SENSORS:
        for folder in _samples(root / sensor):
            name = folder.relative_to(root).as_posix()
            halves = _only(folder / rgb, faults), _only(folder / target, faults)
            label = _label(folder / "scene.txt", faults)
            if label and all(halves):
                views.append(View(name, label, "", sensor, *halves))
            elif any(halves):
                # With label and one half the fault has been reported as a missing file; its partner goes too.
                faults.found += [(half, "left out with the rest of its sample") for half in halves if half]
    if not views:
        raise DataError(
            f"expected samples below {', '.join(SENSORS)}, found none",
            where=str(root),
            remedy="name the folder that SUNRGBD.zip was unpacked to",
        )
    return DataIndex(root, hashed_split(views, test_fraction, splits, _recording), stored).without(faults.found)


def _samples(top: Path) -> Iterator[Path]:
    """Folders below ``top`` that hold a sample, sorted; how deep they lie differs between the parts."""
    for folder, children, files in os.walk(top):
        children.sort()
        if "scene.txt" in files or "image" in children:
            children.clear()
            yield Path(folder)


def _only(folder: Path, faults: Faults) -> Path | None:
    """The one image in ``folder``."""
    found = sorted(path for path in folder.iterdir() if is_image(path)) if folder.is_dir() else []
    if len(found) == 1:
        return found[0]
    if found:
        faults.report(
            f"expected one image a sample, found {found[0].name} and {found[1].name}",
            where=folder,
            others=found,
            remedy="keep the one that belongs to the sample",
        )
    else:
        faults.report(
            "expected this half of the sample, found no image",
            where=folder,
            remedy="unpack the sample again, name another folder in data.rgb_folder or data.target_folder, or remove "
            "the whole sample",
        )
    return None


def _label(path: Path, faults: Faults) -> str:
    """The scene class, or nothing."""
    text = path.read_text(encoding="utf-8", errors="replace").strip() if path.is_file() else ""
    if len(text.split()) != 1:
        faults.report(
            f"expected the name of a scene class, found {text!r}" if text else "expected a scene class, found none",
            where=path,
            remedy="unpack the sample again, or remove it",
        )
        return ""
    return text


def _recording(view: View) -> str:
    """Images of one recording must not be in both splits: those of SUN3D are frames of videos."""
    parts = view.id.split("/")
    return "/".join(parts[:-1]) if "sun3ddata" in parts else view.id
