"""The manifest of a release: signature, decoding and bounds. Nothing here touches a tensor or the disk."""

from __future__ import annotations

import hashlib
import math
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, NoReturn

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from google.protobuf.message import DecodeError

from protos.release_pb2 import Preprocessing, ReleaseManifest, TensorSpec, Training
from socket_core.errors import ReleaseError
from socket_core.keys import key_id, short

SCHEMA_VERSION: Final = 1
MANIFEST, WEIGHTS, SIGNATURE = "manifest.binpb", "weights.safetensors", "manifest.sig"
MAX_MANIFEST_BYTES: Final = 4 * 2**20
MAX_WEIGHTS_BYTES: Final = 2 * 2**30
SIGNATURE_BYTES: Final = 64
OWNER_STATEMENT: Final = (
    "I publish the BatchNorm statistics of this model. "
    "I know that this makes it easier to invert the model and to reconstruct its private source data."
)
GET_AGAIN: Final = "get the release again from its owner, over a channel that you trust"
_FIX = "the owner has to write the release again with a value in these bounds"
_MAX_TEXT = 200
_YEAR_10000 = 253_402_300_800
# Signatures of this product carry their purpose: one made for something else is none over a manifest.
_PURPOSE = b"socket-fl/release-manifest\n"


@dataclass(frozen=True)
class ReleaseInfo:
    """What a manifest says about its release.

    ``digest`` is the sha256 of the manifest in hex. It identifies the release, because the manifest holds the
    hash of the weights.
    """

    name: str
    created_at: int
    backbone: str
    bottleneck_dim: int
    classes: tuple[str, ...]
    image_size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    source_accuracy: float
    epochs: int
    seed: int
    best_epoch: int
    owner_statement: str
    digest: str
    settings_digest: str = ""


def encode(manifest: ReleaseManifest) -> bytes:
    """The one encoding of ``manifest`` that :func:`decode` accepts."""
    data: bytes = manifest.SerializeToString(deterministic=True)
    return data


def sign(key: Ed25519PrivateKey, manifest: bytes) -> bytes:
    """Signature over a manifest's bytes, with its purpose."""
    return key.sign(_PURPOSE + manifest)


def verify(manifest: bytes, signature: bytes, public_key: Ed25519PublicKey, *, where: str) -> None:
    """Check the signature before anything in the manifest is believed.

    Raises:
        ReleaseError: If the signature is none of ``public_key`` over exactly these bytes.
    """
    if len(signature) != SIGNATURE_BYTES:
        raise ReleaseError(
            f"expected a signature of {SIGNATURE_BYTES} bytes, found {len(signature)}",
            where=f"{where}{SIGNATURE}",
            remedy=GET_AGAIN,
        )
    _check_size(manifest, f"{where}{MANIFEST}")
    try:
        public_key.verify(signature, _PURPOSE + manifest)
    except InvalidSignature:
        _refuse_signature(manifest, key_id(public_key), where)


def signer_of(keys: Iterable[Ed25519PublicKey], manifest: bytes, signature: bytes) -> Ed25519PublicKey | None:
    """The first of several trusted keys that signed exactly these bytes, or None."""
    for key in keys:
        try:
            key.verify(signature, _PURPOSE + manifest)
        except InvalidSignature:
            continue
        return key
    return None


def _check_size(manifest: bytes, where: str) -> None:
    if len(manifest) > MAX_MANIFEST_BYTES:
        raise ReleaseError(
            f"expected at most {MAX_MANIFEST_BYTES} bytes, found {len(manifest)}", where=where, remedy=GET_AGAIN
        )


def _refuse_signature(manifest: bytes, expected: str, where: str) -> NoReturn:
    """Say which of the two it looks like; the manifest is only a hint here, since nothing vouches for it."""
    try:
        claimed = ReleaseManifest.FromString(manifest).public_key_id.hex()
    except DecodeError:
        claimed = ""
    if len(claimed) == len(expected) and claimed != expected:
        raise ReleaseError(
            f"signed by another key: expected key {short(expected)}, the manifest claims key {short(claimed)} "
            "(unverified)",
            where=f"{where}{SIGNATURE}",
            remedy="if the owner changed keys, ask them for the new public key in person and pin that one",
        )
    raise ReleaseError(
        f"manifest or signature was altered: the signature of the expected key {short(expected)} does not fit",
        where=f"{where}{SIGNATURE}",
        remedy=GET_AGAIN,
    )


def decode(raw: bytes, *, where: str) -> ReleaseManifest:
    """Decode a manifest and check every value that does not need the weights.

    Raises:
        ReleaseError: If the bytes are no manifest of a known schema version, or a value is out of bounds.
    """
    where = f"{where}{MANIFEST}"
    _check_size(raw, where)
    try:
        manifest = ReleaseManifest.FromString(raw)
    except DecodeError as error:
        raise ReleaseError("manifest cannot be decoded", where=where, remedy=GET_AGAIN) from error
    if manifest.schema_version != SCHEMA_VERSION:
        raise ReleaseError(
            f"unknown schema version {manifest.schema_version}; this build reads version {SCHEMA_VERSION}",
            where=where,
            remedy="install a socket-fl that reads it, or ask the owner for a release of this version",
        )
    known = ReleaseManifest()
    known.CopyFrom(manifest)
    known.DiscardUnknownFields()  # type: ignore[no-untyped-call, unused-ignore]  # by stubs
    if encode(known) != raw:
        raise ReleaseError(
            "manifest holds unknown fields or trailing bytes that this build would not look at",
            where=where,
            remedy=GET_AGAIN,
        )
    _check_values(manifest, where)
    return manifest


def _check_values(m: ReleaseManifest, where: str) -> None:
    def need(holds: bool, expected: str, found: object) -> None:
        if not holds:
            raise ReleaseError(f"expected {expected}, found {found!r}"[:500], where=where, remedy=_FIX)

    def text(value: str, what: str) -> None:
        # Printable, because the text goes to terminals and logs.
        sound = 0 < len(value) <= _MAX_TEXT and value.isprintable()
        need(sound, f"{what} of 1 to {_MAX_TEXT} printable characters", value)

    text(m.name, "a name")
    text(m.backbone, "a backbone name")
    need(0 <= m.created_at < _YEAR_10000, "created_at in seconds since 1970", m.created_at)
    need(1 <= m.bottleneck_dim <= 65536, "bottleneck_dim of 1 to 65536", m.bottleneck_dim)
    need(1 <= len(m.classes) <= 100_000, "1 to 100000 classes", len(m.classes))
    for name in m.classes:
        text(name, "class names")
    twice = [name for name, count in Counter(m.classes).items() if count > 1]
    need(not twice, "class names that all differ", twice[:1])
    need(1 <= m.image_size <= 4096, "image_size of 1 to 4096", m.image_size)
    mean, std = list(m.preprocessing.mean), list(m.preprocessing.std)
    need(len(mean) == 3 and all(map(math.isfinite, mean)), "3 finite channel means", mean)
    need(len(std) == 3 and all(math.isfinite(s) and s > 0 for s in std), "3 finite channel stds above 0", std)
    need(0 <= m.source_accuracy <= 1, "source_accuracy of 0 to 1", m.source_accuracy)
    settings = m.training.settings_digest
    need(re.fullmatch("([0-9a-f]{64})?", settings) is not None, "settings_digest of 64 hex digits or none", settings)
    need(m.training.best_epoch <= m.training.epochs, "best_epoch of at most epochs", m.training.best_epoch)
    need(len(m.weights_sha256) == 32, "a weights_sha256 of 32 bytes", len(m.weights_sha256))
    need(0 < m.weights_bytes <= MAX_WEIGHTS_BYTES, f"1 to {MAX_WEIGHTS_BYTES} weights_bytes", m.weights_bytes)
    need(len(m.public_key_id) == 32, "a public_key_id of 32 bytes", len(m.public_key_id))
    need(m.publishes_batchnorm_statistics, "the confirmation that BatchNorm statistics are published", False)
    statement = m.owner_statement
    need(0 < len(statement) <= 2000 and statement.isprintable(), "an owner_statement of printable text", statement)


def decode_signed(raw: bytes, signature: bytes, public_key: Ed25519PublicKey, *, where: str) -> ReleaseManifest:
    """:func:`verify`, then :func:`decode`; the key that the manifest names has to be the one that signed it.

    Raises:
        ReleaseError: If a check fails.
    """
    verify(raw, signature, public_key, where=where)
    manifest = decode(raw, where=where)
    expected, found = key_id(public_key), manifest.public_key_id.hex()
    if found != expected:
        raise ReleaseError(
            f"signed by the expected key {short(expected)}, but the manifest names key {short(found)} as its signer",
            where=f"{where}{MANIFEST}",
            remedy="the owner has to write the release again",
        )
    return manifest


def compose(info: ReleaseInfo, tensors: Iterable[TensorSpec], weights: bytes, public_key_id: str) -> ReleaseManifest:
    """The manifest of a release that says ``info``, except for its digest, of these weights.

    Raises:
        ReleaseError: If a value does not fit its field.
    """
    try:
        return ReleaseManifest(
            schema_version=SCHEMA_VERSION,
            name=info.name,
            created_at=info.created_at,
            backbone=info.backbone,
            bottleneck_dim=info.bottleneck_dim,
            classes=info.classes,
            image_size=info.image_size,
            preprocessing=Preprocessing(mean=info.mean, std=info.std),
            tensors=tensors,
            weights_sha256=hashlib.sha256(weights).digest(),
            weights_bytes=len(weights),
            source_accuracy=info.source_accuracy,
            training=Training(
                epochs=info.epochs,
                seed=info.seed,
                best_epoch=info.best_epoch,
                settings_digest=info.settings_digest,
            ),
            publishes_batchnorm_statistics=True,
            owner_statement=info.owner_statement,
            public_key_id=bytes.fromhex(public_key_id),
        )
    except (TypeError, ValueError) as error:
        raise ReleaseError(
            f"a value does not fit its field: {error}", where=MANIFEST, remedy="give a value of the documented type"
        ) from error


def describe(manifest: ReleaseManifest, raw: bytes) -> ReleaseInfo:
    """The :class:`ReleaseInfo` of a checked manifest and the bytes that it came from."""
    mean, std = list(manifest.preprocessing.mean), list(manifest.preprocessing.std)
    return ReleaseInfo(
        name=manifest.name,
        created_at=manifest.created_at,
        backbone=manifest.backbone,
        bottleneck_dim=manifest.bottleneck_dim,
        classes=tuple(manifest.classes),
        image_size=manifest.image_size,
        mean=(mean[0], mean[1], mean[2]),
        std=(std[0], std[1], std[2]),
        source_accuracy=manifest.source_accuracy,
        epochs=manifest.training.epochs,
        seed=manifest.training.seed,
        best_epoch=manifest.training.best_epoch,
        settings_digest=manifest.training.settings_digest,
        owner_statement=manifest.owner_statement,
        digest=hashlib.sha256(raw).hexdigest(),
    )
