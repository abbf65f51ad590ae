"""Image files that somebody names: files themselves, and all below folders."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from socket_core.errors import DataError


def files_below(paths: Sequence[Path]) -> list[Path]:
    """The files, those of a folder sorted; hidden files are left out.

    Raises:
        DataError: If a path is not there, or nothing is found.
    """
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            found += sorted(p for p in path.rglob("*") if p.is_file() and not p.name.startswith("."))
        elif path.is_file():
            found.append(path)
        else:
            raise DataError("no such file or folder", where=str(path), remedy="correct the path")
    if not found:
        raise DataError("no image found", where=", ".join(map(str, paths)), remedy="name image files, or their folder")
    return found
