"""A JSON document with an Ed25519 signature inside the file: one encoding, checked before anything in it is believed.

The file is ``{"content": ..., "signature": {"algorithm", "key", "value"}}``. Signed are a purpose, a line break and the
canonical encoding of the content: keys sorted, one space of indentation for each level, ASCII, a line break at the
end. The file itself has this encoding too and no other is read, so no byte of it can change unnoticed.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, NoReturn

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from socket_core.errors import PrivacyError, ReleaseError
from socket_core.keys import key_id, short
from socket_core.release_files import read_file

MAX_BYTES = 64 * 2**20
ALGORITHM = "Ed25519"


def canonical(content: dict[str, Any]) -> bytes:
    """The one encoding of ``content``.

    Raises:
        ValueError: If it holds NaN or an infinity.
        TypeError: If it holds what is no JSON.
    """
    return json.dumps(content, sort_keys=True, indent=1, ensure_ascii=True, allow_nan=False).encode() + b"\n"


def sign(content: dict[str, Any], key: Ed25519PrivateKey, purpose: str) -> bytes:
    """The file's bytes.

    Raises:
        PrivacyError: If they would be more than :func:`check` reads.
    """
    value = key.sign(_signed(content, purpose)).hex()
    signature = {"algorithm": ALGORITHM, "key": key_id(key.public_key()), "value": value}
    data = canonical({"content": content, "signature": signature})
    if len(data) > MAX_BYTES:
        raise PrivacyError(f"{len(data)} bytes to sign, at most {MAX_BYTES} can be read again", where=purpose)
    return data


def read(path: Path) -> bytes:
    """A file of at most :data:`MAX_BYTES` bytes.

    Raises:
        PrivacyError: If it cannot be read or is larger.
    """
    try:
        return read_file(path, MAX_BYTES)
    except ReleaseError as error:
        raise PrivacyError(error.what, where=str(path), remedy="give the file as the site has written it") from None


def check(data: bytes, key: Ed25519PublicKey, purpose: str, *, where: str) -> dict[str, Any]:
    """The content of a file that ``key`` has signed for this purpose.

    Raises:
        PrivacyError: If a byte is another, another key has signed, or it is no such file.
    """
    if len(data) > MAX_BYTES:
        _refuse(f"expected at most {MAX_BYTES} bytes, found {len(data)}", where)
    whole = _parse(data, where)
    content, signature = whole.get("content"), whole.get("signature")
    if whole.keys() != {"content", "signature"} or not isinstance(content, dict) or not isinstance(signature, dict):
        _refuse("expected content and signature, and no more", where)
    if signature.keys() != {"algorithm", "key", "value"} or signature["algorithm"] != ALGORITHM:
        _refuse(f"expected a signature by {ALGORITHM} with key and value", where)
    claimed, value, own = signature["key"], signature["value"], key_id(key)
    if claimed != own:
        _refuse(f"expected the key {short(own)}, the file names another", where)
    if not isinstance(value, str) or not re.fullmatch("[0-9a-f]{128}", value):
        _refuse("expected a signature of 128 hex digits", where)
    try:
        key.verify(bytes.fromhex(value), _signed(content, purpose))
    except InvalidSignature:
        _refuse(f"the signature of key {short(own)} does not fit: the file was altered", where)
    return content


def _signed(content: dict[str, Any], purpose: str) -> bytes:
    return purpose.encode() + b"\n" + canonical(content)


def _parse(data: bytes, where: str) -> dict[str, Any]:
    """Strict JSON: an object, no name twice, finite numbers, and in no other encoding than the canonical one."""
    try:
        whole = json.loads(data.decode("ascii"), object_pairs_hook=_once, parse_constant=_not_finite)
        again = canonical(whole) if isinstance(whole, dict) else b""
    except (ValueError, RecursionError) as error:
        _refuse(f"not the JSON of such a file ({str(error)[:100]})", where)
    if again != data:
        _refuse("not in the encoding in which such files are written", where)
    return dict(whole)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name twice in one object")
    return found


def _not_finite(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number")


def _refuse(what: str, where: str) -> NoReturn:
    raise PrivacyError(what, where=where, remedy="get the file and the public key again from the site, by a safe way")
