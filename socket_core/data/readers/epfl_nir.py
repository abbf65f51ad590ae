"""EPFL RGB-NIR scenes: ``<class>/<id>_rgb.tiff`` and ``<class>/<id>_nir.tiff``."""

from __future__ import annotations

from pathlib import Path

from socket_core.data.decode import Stored
from socket_core.data.index import DataIndex, Faults, View
from socket_core.data.readers.splits import hashed_split
from socket_core.errors import DataError

STORED = Stored(replicated=True)
_HALVES = ("rgb", "nir")


def build_index(
    root: Path,
    *,
    splits: tuple[str, str] = ("train", "test"),
    test_fraction: float = 0.25,
    stored: Stored = STORED,
    faults: Faults | None = None,
) -> DataIndex:
    """Lists all pairs, sorted by split, class and id.

    Args:
        root: The folder that holds the class folders.
        splits: Names of the training and the test split.
        test_fraction: Share of each class that is held out; see :func:`hashed_split`.
        stored: How infrared files hold their values.
        faults: Takes faulty files in; by default the first of them is an error.

    Raises:
        DataError: No class folder, an empty one, another file name, two files with one id, or a missing half.
    """
    faults = faults or Faults()
    folders = sorted(p for p in root.iterdir() if p.is_dir() and not p.name.startswith(".")) if root.is_dir() else []
    if not folders:
        raise DataError("expected class folders, found none", where=str(root), remedy="correct data.root")
    views = [view for folder in folders for view in _class(folder, faults)]
    return DataIndex(root, hashed_split(views, test_fraction, splits, lambda view: view.id), stored).without(
        faults.found
    )


def _class(folder: Path, faults: Faults) -> list[View]:
    """The views of one class."""
    halves: dict[str, dict[str, Path]] = {half: {} for half in _HALVES}
    for path in sorted(p for p in folder.iterdir() if not p.name.startswith(".")):
        name, _, half = path.stem.rpartition("_")
        if not name or half not in halves or path.suffix.lower() not in (".tif", ".tiff"):
            faults.report(
                "expected a file named ID_rgb.tiff or ID_nir.tiff", where=path, remedy="move it out of the data set"
            )
        elif name in halves[half]:
            faults.report(
                f"expected one file per id, found {halves[half][name].name} and {path.name}",
                where=folder,
                others=(halves[half][name], path),
                remedy="keep the one that belongs to the view",
            )
        else:
            halves[half][name] = path
    rgb, nir = (halves[half] for half in _HALVES)
    if not rgb and not nir:
        faults.report("expected images of the class, found none", where=folder, remedy="remove the folder")
    for name in sorted(rgb.keys() ^ nir.keys()):
        lacking = "nir" if name in rgb else "rgb"
        faults.report(
            f"its other half {name}_{lacking}.tiff is missing",
            where=rgb.get(name) or nir[name],
            remedy="add the other half, or remove this one",
        )
    return [View(name, folder.name, "", "", rgb.get(name), nir.get(name)) for name in sorted(rgb.keys() | nir.keys())]
