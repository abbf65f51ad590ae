"""Image files that somebody names: files themselves, and all below folders."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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


def by_name(folder: Path, files: Sequence[Path]) -> dict[str, Path]:
    """Files below a folder by what the two halves of a pair share: the path without its ending."""
    return {str(path.relative_to(folder).with_suffix("")): path for path in files}


def paired(rgb: Mapping[str, Path], target: Mapping[str, Path]) -> list[tuple[Path, Path]]:
    """The halves of each pair, sorted by name; both arguments as :func:`by_name` gives them.

    Raises:
        DataError: If a half is alone.
    """
    if alone := sorted(rgb.keys() ^ target.keys()):
        half = rgb.get(alone[0]) or target[alone[0]]
        raise DataError("its other half is missing", where=str(half), remedy="add the other half or remove this file")
    return [(rgb[name], target[name]) for name in sorted(rgb)]
