"""Ed25519 key files: the owner signs a release with one, a site pins the other."""

from __future__ import annotations

import hashlib
import os
import re
import stat
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization as ser
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from socket_core.errors import ReleaseError

MAX_KEY_BYTES = 64 * 1024
_STEM = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")


def key_id(public_key: Ed25519PublicKey) -> str:
    """Sha256 of the raw 32-byte public key, in hex."""
    raw = public_key.public_bytes(ser.Encoding.Raw, ser.PublicFormat.Raw)
    return hashlib.sha256(raw).hexdigest()


def short(full_id: str) -> str:
    """First 16 characters of a key id: for messages, never for a comparison."""
    return full_id[:16]


def create_keypair(folder: Path, stem: str) -> tuple[Path, Path]:
    """Write ``<stem>.key.pem`` (PKCS8, mode 0600) and ``<stem>.pub.pem``; neither ever overwrites a file.

    Returns:
        The paths of the private and of the public key.

    Raises:
        ReleaseError: If a file of either name exists, the stem is no plain file name, or writing fails.
    """
    if not _STEM.fullmatch(stem):
        raise ReleaseError(
            f"{stem!r} cannot name a key file", remedy="use letters, digits, '_', '-' and '.', at most 100 of them"
        )
    private_path, public_path = folder / f"{stem}.key.pem", folder / f"{stem}.pub.pem"
    key = Ed25519PrivateKey.generate()
    private_pem = key.private_bytes(ser.Encoding.PEM, ser.PrivateFormat.PKCS8, ser.NoEncryption())
    public_pem = key.public_key().public_bytes(ser.Encoding.PEM, ser.PublicFormat.SubjectPublicKeyInfo)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # The public key goes first: should the second write fail, no private key is left without its other half.
        _write_new(public_path, public_pem, 0o644)
        try:
            _write_new(private_path, private_pem, 0o600)
        except BaseException:
            public_path.unlink(missing_ok=True)
            raise
    except FileExistsError as error:
        raise ReleaseError(
            "a file of this name exists, and a key is never overwritten",
            where=str(error.filename),
            remedy="choose another name, or move the old pair away first",
        ) from error
    except OSError as error:
        raise ReleaseError(
            f"cannot write the key pair: {error.strerror}",
            where=str(folder),
            remedy="check that the folder is writable and the disk has room",
        ) from error
    return private_path, public_path


def load_private_key(path: Path) -> Ed25519PrivateKey:
    """The private key in ``path``.

    Raises:
        ReleaseError: If the file is missing, open to group or others, or holds no unencrypted Ed25519 private key.
    """
    data = _read(path, private=True)
    try:
        key = ser.load_pem_private_key(data, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        # The cause is dropped on purpose: no part of a private key may reach a log.
        raise _not_a_key(path, "an unencrypted private key in PEM form", "private") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise _not_a_key(path, f"an Ed25519 key (found {type(key).__name__.lstrip('_')})", "private")
    return key


def load_public_key(path: Path) -> Ed25519PublicKey:
    """The public key in ``path``.

    Raises:
        ReleaseError: If the file is missing or holds no Ed25519 public key.
    """
    data = _read(path, private=False)
    try:
        key = ser.load_pem_public_key(data)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise _not_a_key(path, "a public key in PEM form", "public") from None
    if not isinstance(key, Ed25519PublicKey):
        raise _not_a_key(path, f"an Ed25519 key (found {type(key).__name__.lstrip('_')})", "public")
    return key


def _not_a_key(path: Path, expected: str, which: str) -> ReleaseError:
    names = {"private": "<name>.key.pem", "public": "<name>.pub.pem"}
    return ReleaseError(
        f"expected {expected}", where=str(path), remedy=f"give the {which} key of the pair, {names[which]}"
    )


def _write_new(path: Path, data: bytes, mode: int) -> None:
    """Create ``path``; what could not be written in full is removed again."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        path.unlink(missing_ok=True)
        raise


def _read(path: Path, *, private: bool) -> bytes:
    try:
        # Non-blocking, so that a pipe in place of the file is refused below instead of waited for.
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
        with os.fdopen(descriptor, "rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise ReleaseError("expected a key file, found something else", where=str(path), remedy="give a file")
            # Asked of the open file, not of its name: the file cannot be exchanged in between.
            if private and status.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
                raise ReleaseError(
                    f"group or others can access this private key (mode {stat.S_IMODE(status.st_mode):04o})",
                    where=str(path),
                    remedy=f"chmod 600 {path}; make a new pair if anyone else could have read it",
                )
            data = file.read(MAX_KEY_BYTES + 1)
    except FileNotFoundError as error:
        raise ReleaseError("key file not found", where=str(path), remedy="check the path") from error
    except OSError as error:
        raise ReleaseError(
            f"cannot read the key file: {error.strerror}", where=str(path), remedy="check path and permissions"
        ) from error
    if len(data) > MAX_KEY_BYTES:
        raise ReleaseError(
            f"expected a key file of at most {MAX_KEY_BYTES} bytes, found more",
            where=str(path),
            remedy="give the path of a key in PEM form",
        )
    return data
