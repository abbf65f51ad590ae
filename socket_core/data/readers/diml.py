"""DIML/CVL RGB-D, labelled part: ``<split>/[<LR|HR>/]<class>/{color, depth_filled}/<id>_{c, depth_filled}.png``.

Written from public descriptions of the data set, without the data at hand: ``docs/data.md`` says what is accepted.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from socket_core.data.decode import Stored
from socket_core.data.index import DataIndex, Faults, View, is_image
from socket_core.errors import DataError

STORED = Stored(bits=16)
COLOUR = ("color", "col")
DEPTH = ("depth_filled", "depth")
_RESOLUTIONS = ("LR", "HR")
# Longest first: `_depth_filled` must not lose `_filled` alone.
_ENDINGS = ("_depth_filled", "_depth_vi", "_depth_raw", "_depth", "_color", "_col", "_c")


def build_index(
    root: Path,
    splits: Iterable[str] = ("train", "test"),
    *,
    rgb: str = "",
    target: str = "",
    stored: Stored = STORED,
    faults: Faults | None = None,
) -> DataIndex:
    """Lists the views of ``splits``, sorted by split, class and id (the file name without its ending).

    Args:
        root: The folder that holds the splits.
        splits: Folders of the splits, below ``root``; ``train/LR`` names one resolution.
        rgb: Folder of a class that holds the RGB images; empty for ``color`` or ``col``.
        target: Folder of a class that holds depth; empty for ``depth_filled`` or ``depth``.
        stored: How depth files hold their values.
        faults: Takes faulty files in; by default the first of them is an error.

    Raises:
        DataError: A missing split, a class without images, two files with one id, or a missing half.
    """
    faults = faults or Faults()
    views: list[View] = []
    for split in dict.fromkeys(splits):
        for folder in _classes(root / split):
            colour = _files(folder, (rgb,) if rgb else COLOUR, faults)
            other = _files(folder, (target,) if target else DEPTH, faults)
            for name in sorted(colour.keys() | other.keys()):
                view = View(name, folder.name, split, "", colour.get(name), other.get(name))
                if len(view.files) == 1:
                    faults.report(
                        f"its other half is missing: no {'depth' if view.rgb else 'RGB'} image with id {name!r}",
                        where=view.files[0],
                        remedy="add the other half, or remove this one",
                    )
                views.append(view)
    return DataIndex(root, tuple(views), stored).without(faults.found)


def _classes(top: Path) -> list[Path]:
    """The class folders of a split."""
    if not top.is_dir():
        raise DataError(
            "expected the folder of a split, found none",
            where=str(top),
            remedy="correct data.root, data.train_split or data.test_split",
        )
    there = [top / name for name in _RESOLUTIONS if (top / name).is_dir()]
    if len(there) > 1:
        raise DataError(
            f"expected one resolution, found {' and '.join(path.name for path in there)}",
            where=str(top),
            remedy="choose one in data.train_split: train/LR, data.test_split: test/LR, data.ti_splits: [train/LR]",
        )
    folders = sorted(p for p in (there or [top])[0].iterdir() if p.is_dir() and not p.name.startswith("."))
    if not folders:
        raise DataError("expected class folders, found none", where=str(top), remedy="correct data.root")
    return folders


def _files(folder: Path, names: tuple[str, ...], faults: Faults) -> dict[str, Path]:
    """The images of one class and modality by id."""
    top = next((folder / name for name in names if (folder / name).is_dir()), folder / names[0])
    files: dict[str, Path] = {}
    for path in sorted(top.iterdir()) if top.is_dir() else []:
        if not is_image(path):
            continue
        name = _id(path.stem)
        if name in files:
            faults.report(
                f"expected one file per id, found {files[name].name} and {path.name}",
                where=top,
                others=(files[name], path),
                remedy="keep the one that belongs to the view",
            )
        files[name] = path
    if not files:
        faults.report(
            "expected images of the class, found none",
            where=top,
            remedy="unpack the class again, remove its folder, or set data.rgb_folder and data.target_folder",
        )
    return files


def _id(stem: str) -> str:
    for ending in _ENDINGS:
        if stem.endswith(ending) and len(stem) > len(ending):
            return stem.removesuffix(ending)
    return stem
