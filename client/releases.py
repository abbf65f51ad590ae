"""The releases that a site holds or is given: each must be signed by one of the keys that it pins."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from client.policy import check_sources
from client.site import Site
from protos.wire_pb2 import EnrolRequest, RoundRequest
from socket_core.errors import ReleaseError
from socket_core.keys import key_id, short
from socket_core.release import MANIFEST, SIGNATURE, Release, read_release, unpack_release
from socket_core.release_files import read_file
from socket_core.release_manifest import MAX_MANIFEST_BYTES, SIGNATURE_BYTES, signer_of


def read_pinned(site: Site, folder: Path) -> Release:
    """The release in ``folder``, checked against the pinned key that signed it.

    Raises:
        ReleaseError: As :func:`socket_core.release.read_release`, and if no pinned key signed it.
    """
    # Read once more below, where everything is checked: this only chooses among keys that are all trusted.
    head = {name: _content(folder / name, size) for name, size in _SIGNED.items()}
    return read_release(folder, _signer(site, head, where=f"{folder}/"))


def keep_pinned(site: Site, files: Mapping[str, bytes]) -> Path:
    """Checks received files against the pinned key that signed them, and keeps them.

    Raises:
        ReleaseError: As :func:`socket_core.release.unpack_release`, and if no pinned key signed them.
    """
    return unpack_release(files, site.store.releases, _signer(site, files, where="received "))


def find_release(site: Site, digest: str) -> Release:
    """The cached release of that digest, checked again against the pinned keys.

    Raises:
        ReleaseError: If it is not there, damaged, or not what the digest says.
    """
    if len(digest) != 64 or not all(c in "0123456789abcdef" for c in digest):
        raise ReleaseError("the release digest is not a sha256", where="release_digest")
    release = read_pinned(site, site.store.releases / digest)
    if release.info.digest != digest:
        raise ReleaseError("the cached release has another digest", where=digest)
    return release


def digests_of(site: Site, request: EnrolRequest | RoundRequest) -> list[str]:
    """Digests of all releases that a request names, the first source's first.

    Raises:
        PolicyError: If they are more than the site allows; none has been looked for then.
    """
    digests = [request.release_digest, *request.further_release_digests]
    check_sources(site.policy, len(digests))
    return digests


def holds(site: Site, digest: str) -> bool:
    """Whether the site holds a sound release of that digest."""
    try:
        find_release(site, digest)
    except ReleaseError:
        return False
    return True


_SIGNED = {MANIFEST: MAX_MANIFEST_BYTES, SIGNATURE: SIGNATURE_BYTES}


def _content(path: Path, limit: int) -> bytes:
    """A file of at most ``limit`` bytes; empty where it cannot be read, which the real check then explains."""
    try:
        return read_file(path, limit)
    except ReleaseError:
        return b""


def _signer(site: Site, files: Mapping[str, bytes], *, where: str) -> Ed25519PublicKey:
    """The pinned key that signed a manifest.

    With one key there is nothing to choose, and the release's own check says what is wrong.
    """
    keys: Sequence[Ed25519PublicKey] = site.pinned_keys
    signer = signer_of(keys, files.get(MANIFEST, b""), files.get(SIGNATURE, b""))
    if signer is None and len(keys) > 1 and files.get(MANIFEST) and files.get(SIGNATURE):
        raise ReleaseError(
            f"not signed by any of the {len(keys)} pinned keys {', '.join(short(key_id(key)) for key in keys)}",
            where=f"{where}{SIGNATURE}",
            remedy="get the owner's public key in person and add it to further_owner_keys, or leave this source out",
        )
    return signer or keys[0]
