"""The common layout, ``<root>/<split>/<modality>/<class>/<id>.*``."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from socket_core.data.decode import PLAIN, Stored
from socket_core.data.folder_index import index_folder
from socket_core.data.index import DataIndex, Faults, View


def build_index(
    root: Path, splits: Iterable[str], rgb: str, target: str, *, stored: Stored = PLAIN, faults: Faults | None = None
) -> DataIndex:
    """Lists the views of ``splits``, sorted by split, class and id.

    Args:
        root: The data set.
        splits: Folder names of the splits; no other is opened.
        rgb: Folder name of the RGB images.
        target: Folder name of the target images.
        stored: How target files hold their values.
        faults: Takes faulty files in; by default the first of them is an error.

    Raises:
        DataError: As for :func:`socket_core.data.folder_index.index_folder`.
    """
    faults = faults or Faults()
    views: list[View] = []
    for split in dict.fromkeys(splits):
        colour = {entry.view: entry.path for entry in index_folder(root, split, rgb, faults)}
        other = {entry.view: entry.path for entry in index_folder(root, split, target, faults)}
        for label, name in sorted(colour.keys() | other.keys()):
            view = (label, name)
            views.append(View(name, label, split, rgb=colour.get(view), target=other.get(view)))
    # Images of the task need no partner in this layout; pairs are checked where they are used.
    return DataIndex(root, tuple(views), stored, paired=False).without(faults.found)
