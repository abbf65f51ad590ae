"""The common folder layout, ``<root>/<split>/<modality>/<class>/<id>.*``: what lies there, and how it is paired.

The same split, class and id in two modality folders is the same view. Nothing is skipped silently: a missing
half, an empty class or a stray file is an error that names the file.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from socket_core.data.index import SUFFIXES, Faults
from socket_core.errors import DataError


@dataclass(frozen=True)
class Entry:
    """One image file: its id (file name without suffix), its path, its class (the folder name) and its sensor."""

    id: str
    path: Path
    label: str
    sensor: str = ""

    @property
    def view(self) -> tuple[str, str]:
        """``(class, id)``, the same for both halves of a pair."""
        return self.label, self.id


def _subfolder(parent: Path, name: str, what: str) -> Path:
    """``parent / name``, which must be a folder; the error lists the folders that do exist."""
    folder = parent / name
    if folder.is_dir():
        return folder
    found = sorted(item.name for item in parent.iterdir() if item.is_dir()) if parent.is_dir() else []
    raise DataError(
        f"expected the {what} folder {name!r}, found {', '.join(found) or 'no folders'}",
        where=str(parent),
        remedy="arrange the images as <root>/<split>/<modality>/<class>/<id>.png, or correct the configured name",
    )


def _index_class(folder: Path, faults: Faults) -> list[Entry]:
    """The images of one class folder, sorted by id."""
    entries: dict[str, Entry] = {}
    for path in sorted(folder.iterdir()):
        if path.name.startswith("."):
            continue
        if path.is_dir() or path.suffix.lower() not in SUFFIXES:
            kinds = " ".join(sorted(SUFFIXES))
            faults.report(f"expected an image file ({kinds})", where=path, remedy="move it out of the data set")
            continue
        if path.stem in entries:
            faults.report(
                f"expected one file per id, found {entries[path.stem].path.name} and {path.name}",
                where=folder,
                others=(entries[path.stem].path, path),
                remedy="keep the one that belongs to the view, and remove the other",
            )
        entries[path.stem] = Entry(path.stem, path, folder.name)
    if not entries:
        faults.report("expected images of the class, found none", where=folder, remedy="remove the folder")
    return [entries[name] for name in sorted(entries)]


def index_folder(root: Path, split: str, modality: str, faults: Faults | None = None) -> list[Entry]:
    """List the images of one split and modality, sorted by class and id. Hidden files are ignored.

    Args:
        root: The data set.
        split: Folder name of the split, for example ``train``.
        modality: Folder name of the modality, for example ``depth``.
        faults: Takes faulty files in; by default the first of them is an error.

    Raises:
        DataError: A missing folder, an empty class, a file that is no image, or two files with one id.
    """
    faults = faults or Faults()
    top = _subfolder(_subfolder(root, split, "split"), modality, "modality")
    entries: list[Entry] = []
    for folder in sorted(top.iterdir()):
        if folder.name.startswith("."):
            continue
        if not folder.is_dir():
            faults.report("expected class folders only", where=folder, remedy="move it into a class folder")
            continue
        entries += _index_class(folder, faults)
    if not entries:
        raise DataError("expected class folders, found none", where=str(top), remedy="add one folder per class")
    return entries


def pair_entries(
    a: list[Entry], b: list[Entry], names: tuple[str, str] = ("rgb", "target")
) -> list[tuple[Entry, Entry]]:
    """Match two modalities by class and id, sorted.

    Args:
        a: Entries of the first modality.
        b: Entries of the second.
        names: What to call the two in messages.

    Raises:
        DataError: An image without its other half.
    """
    first, second = {entry.view: entry for entry in a}, {entry.view: entry for entry in b}
    alone = sorted(first.keys() ^ second.keys())
    if alone:
        view = alone[0]
        present, lacking = (first[view], names[1]) if view in first else (second[view], names[0])
        raise DataError(
            f"expected a {lacking} image with class {view[0]!r} and id {view[1]!r}, found none "
            f"({len(alone)} images lack their other half)",
            where=str(present.path),
            remedy=f"add the missing {lacking} image, or remove this one",
        )
    return [(first[view], second[view]) for view in sorted(first)]


def of_classes(entries: list[Entry], classes: Iterable[str], where: str) -> list[Entry]:
    """The entries of ``classes``; a class without any is an error that offers the nearest name."""
    wanted = set(classes)
    known = {entry.label for entry in entries}
    for name in sorted(wanted - known):
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.0)
        hint = f"the nearest is {near[0]!r}" if near else "there are none"
        raise DataError(
            f"expected images of class {name!r}, found none; {hint}",
            where=where,
            remedy=f"correct the class name; the classes there are {', '.join(sorted(known)) or 'none'}",
        )
    return [entry for entry in entries if entry.label in wanted]
