"""Files of a release on disk: bounded reads, and folders that appear whole or not at all."""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import shutil
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path

from socket_core.errors import ReleaseError
from socket_core.release_manifest import GET_AGAIN


def read_file(path: Path, limit: int, *, exact: bool = False) -> bytes:
    """Contents of a regular file of at most, or exactly, ``limit`` bytes.

    Raises:
        ReleaseError: If there is no such file, it is of another length, or it cannot be read.
    """
    try:
        # Non-blocking, so that a pipe in place of the file is refused instead of waited for.
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise ReleaseError("expected a file, found something else", where=str(path), remedy=GET_AGAIN)
            # Only the size is asked first: a huge file is refused without being read.
            data = b"" if status.st_size > limit else file.read(limit + 1)
    except FileNotFoundError as error:
        raise missing(path) from error
    except OSError as error:
        raise ReleaseError(
            f"cannot read the file: {error.strerror}", where=str(path), remedy="check path and permissions"
        ) from error
    size = max(status.st_size, len(data))
    if size > limit or (exact and size != limit):
        raise ReleaseError(
            f"expected {'' if exact else 'at most '}{limit} bytes, found {size}", where=str(path), remedy=GET_AGAIN
        )
    return data


def missing(path: Path) -> ReleaseError:
    """The error for a file that a release needs and does not have."""
    return ReleaseError("file of the release is missing", where=str(path), remedy=f"check the path, or {GET_AGAIN}")


def publish(target: Path, files: Mapping[str, bytes]) -> None:
    """Make ``target`` a folder of exactly ``files``; readers see the old folder or the new one, never a mixture.

    Replacing needs two renames. Should the second one fail, the old folder is put back.

    Raises:
        ReleaseError: If writing fails; nothing of this call is left behind then.
    """
    token = secrets.token_hex(8)
    staging, aside = target.with_name(f".{target.name}.{token}.new"), target.with_name(f".{target.name}.{token}.old")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        staging.mkdir()
        for name, data in files.items():
            with (staging / name).open("xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
        _sync(staging)
        if os.path.lexists(target):
            target.rename(aside)
            try:
                staging.rename(target)
            except BaseException:
                aside.rename(target)
                raise
        else:
            staging.rename(target)
        _sync(target.parent)
    except OSError as error:
        raise ReleaseError(
            f"cannot write the release: {error.strerror}",
            where=str(target),
            remedy="check that the folder beside it is writable and the disk has room",
        ) from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)
        _remove(aside, unless_missing=target)


def _remove(path: Path, *, unless_missing: Path) -> None:
    """Remove what was moved aside, but never the last copy."""
    if not (os.path.lexists(path) and os.path.lexists(unless_missing)):
        return
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            path.unlink()


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """One process at a time in ``folder``, which is made if needed; the lock goes with the process.

    Raises:
        ReleaseError: If the folder cannot be made or written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise ReleaseError(
            f"cannot use the cache folder: {error.strerror}", where=str(folder), remedy="give a writable folder"
        ) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
