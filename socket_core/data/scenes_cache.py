"""Rendered sets on disk: one folder of ``.npy`` files for each set of parameters.

A folder appears whole or not at all, and its index holds a checksum of every file. A folder that does not
match its index is rendered again, because wrong pixels would be worse than a wait.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from socket_core.errors import DataError

Arrays = dict[str, NDArray[Any]]
Key = dict[str, int | str]

_INDEX = "index.json"


def folder_of(cache: Path, key: Key) -> Path:
    """Where the arrays of ``key`` are kept."""
    text = json.dumps(key, sort_keys=True)
    return cache / f"scenes-{hashlib.sha256(text.encode()).hexdigest()[:16]}"


def load(cache: Path, key: Key, make: Callable[[], Arrays]) -> Arrays:
    """The arrays of ``key``: read if they are on disk and whole, otherwise made and kept.

    Args:
        cache: Folder of all cached sets; made if missing.
        key: Everything that the arrays depend on.
        make: Makes them.

    Raises:
        DataError: If the cache cannot be written.
    """
    folder = folder_of(cache, key)
    found = _read(folder, key)
    if found is not None:
        return found
    arrays = make()
    try:
        _write(folder, key, arrays)
    except OSError as error:
        raise DataError(
            f"the cache of rendered scenes cannot be written ({error.strerror or error})",
            where=str(cache),
            remedy="free disk space, choose another cache folder, or use none",
        ) from error
    # What was read back would be equal; the arrays in hand are whole whatever happens to the folder.
    return arrays


def _checksum(array: NDArray[Any]) -> int:
    return zlib.crc32(np.ascontiguousarray(array).data)


def _read(folder: Path, key: Key) -> Arrays | None:
    """The arrays of a folder, or None if it is missing, incomplete or damaged."""
    try:
        index = json.loads((folder / _INDEX).read_text())
        if index["key"] != key:
            return None
        arrays: Arrays = {}
        for name, checksum in index["checksums"].items():
            # Copy on write: processes share the pages, yet a tensor can be made without a warning.
            array = np.load(folder / f"{name}.npy", mmap_mode="c", allow_pickle=False).view(np.ndarray)
            if _checksum(array) != checksum:
                return None
            arrays[name] = array
    except (OSError, EOFError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return arrays


def _write(folder: Path, key: Key, arrays: Arrays) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    fresh = Path(tempfile.mkdtemp(prefix=".scenes-", dir=folder.parent))
    try:
        for name, array in arrays.items():
            np.save(fresh / f"{name}.npy", array, allow_pickle=False)
        checksums = {name: _checksum(array) for name, array in arrays.items()}
        (fresh / _INDEX).write_text(json.dumps({"key": key, "checksums": checksums}, indent=1))
        if folder.exists() and _read(folder, key) is None:
            shutil.rmtree(folder, ignore_errors=True)
        try:
            fresh.rename(folder)
        except OSError:
            # Another process was faster; its arrays are the same.
            if _read(folder, key) is None:
                raise
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
