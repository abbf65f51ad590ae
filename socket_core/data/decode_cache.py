"""Decoded sets on disk: one array for each set, used only while files, sizes and times are unchanged.

The array is followed by a checksum; what does not match it is decoded again and written anew. Sets are mapped, not
loaded: they may be larger than memory, and all processes of a machine share the pages.
"""

from __future__ import annotations

import hashlib
import io
import json
import logging
import tempfile
from collections.abc import Iterable, Sequence
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
    """The kept array, mapped and read-only, or None if there is none or it is damaged.

    Every byte is read once, to check it; nothing is held but pages that the system may drop again.
    """
    if not file.exists():
        return None
    try:
        raw = np.memmap(file, dtype=np.uint8, mode="r")
        # The digest is checked before the file is parsed: a damaged file is never interpreted.
        if hashlib.sha256(raw[:-_DIGEST_BYTES].data).digest() == raw[-_DIGEST_BYTES:].tobytes():
            pixels: Pixels = np.load(file, mmap_mode="r", allow_pickle=False).view(np.ndarray)
            if pixels.shape == shape and pixels.dtype in (np.uint8, np.uint16):
                return pixels
    except (OSError, ValueError) as error:
        _LOG.debug("cache file %s: %s", file, error)
    _LOG.warning("cache file %s is damaged; its images are decoded again", file)
    return None


def write(file: Path, count: int, images: Iterable[Pixels]) -> None:
    """Writes images one by one, then their digest, under another name first: a reader never meets half a file.

    Args:
        file: From :func:`file_of`.
        count: How many images come, at least one.
        images: All of one shape and type; never more than one of them is in memory.

    Raises:
        DataError: The cache cannot be written, or what ``images`` raises.
    """
    temporary: Path | None = None
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=file.parent, suffix=".tmp", delete=False) as stream:
            temporary = Path(stream.name)
            digest = hashlib.sha256()
            for i, image in enumerate(images):
                data = image.tobytes() if i else _header(count, image) + image.tobytes()
                digest.update(data)
                stream.write(data)
            stream.write(digest.digest())
        temporary.replace(file)
        temporary = None
    except OSError as error:
        raise DataError(
            f"expected to write decoded images, found {error.strerror}",
            where=str(file.parent),
            remedy="free disk space, name a writable cache folder, or run without a cache",
        ) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def _header(count: int, image: Pixels) -> bytes:
    """What ``numpy.save`` writes before so many images."""
    buffer = io.BytesIO()
    shape = {"descr": np.lib.format.dtype_to_descr(image.dtype), "fortran_order": False, "shape": (count, *image.shape)}
    np.lib.format.write_array_header_1_0(buffer, shape)
    return buffer.getvalue()
