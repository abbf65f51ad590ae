"""Decoded sets on disk: one array for each set, used only while files, sizes and times are unchanged.

The array is followed by a checksum; what does not match it is decoded again and written anew.
"""

from __future__ import annotations

import hashlib
import json
import logging
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from socket_core.errors import DataError

Pixels = NDArray[np.uint8] | NDArray[np.uint16]
Key = Sequence[int | str]

_DIGEST_BYTES = 32
_LOG = logging.getLogger(__name__)


def file_of(cache: Path, key: Key, paths: Sequence[Path], root: Path | None) -> Path:
    """Where the decoded set lies; another name as soon as any file, its size or its time changes.

    Args:
        cache: Folder of all cached sets.
        key: Everything but the files that the pixels depend on.
        paths: The files.
        root: Folder that the names of the files are relative to; None for absolute names.

    Raises:
        DataError: A file is missing.
    """
    files = []
    for path in paths:
        try:
            stat = path.stat()
        except OSError as error:
            raise DataError(f"expected a file, found none ({error.strerror})", where=str(path)) from error
        name = path.relative_to(root) if root is not None and path.is_relative_to(root) else path.absolute()
        files.append([name.as_posix(), stat.st_size, stat.st_mtime_ns])
    text = json.dumps([*key, files])
    return cache / f"{hashlib.sha256(text.encode()).hexdigest()}.npy"


def read(file: Path, shape: tuple[int, ...]) -> Pixels | None:
    """The kept array, or None if there is none or it is damaged."""
    if not file.exists():
        return None
    try:
        raw = np.memmap(file, dtype=np.uint8, mode="r")
        # The digest is checked before the file is parsed: a damaged file is never interpreted.
        if hashlib.sha256(raw[:-_DIGEST_BYTES].data).digest() == raw[-_DIGEST_BYTES:].tobytes():
            pixels: Pixels = np.load(file, allow_pickle=False)
            if pixels.shape == shape and pixels.dtype in (np.uint8, np.uint16):
                return pixels
    except (OSError, ValueError) as error:
        _LOG.debug("cache file %s: %s", file, error)
    _LOG.warning("cache file %s is damaged; its images are decoded again", file)
    return None


def write(file: Path, pixels: Pixels) -> None:
    """Write array and digest under another name first, so that a reader never meets half a file.

    Raises:
        DataError: The cache cannot be written.
    """
    temporary: Path | None = None
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=file.parent, suffix=".tmp", delete=False) as stream:
            temporary = Path(stream.name)
            np.save(stream, pixels, allow_pickle=False)
        with temporary.open("r+b") as whole:
            digest = hashlib.file_digest(whole, "sha256").digest()
            whole.seek(0, 2)
            whole.write(digest)
        temporary.replace(file)
    except OSError as error:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
        raise DataError(
            f"expected to write decoded images, found {error.strerror}",
            where=str(file.parent),
            remedy="free disk space, name a writable cache folder, or run without a cache",
        ) from error
