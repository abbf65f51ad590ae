"""Signed releases of a source model: write, read, send.

A release is a folder of :data:`MANIFEST`, :data:`WEIGHTS` and :data:`SIGNATURE` (``protos/release.proto``).
Whoever reads one checks it against a pinned public key, and nothing in it is ever executed: the formats are
protobuf and safetensors. Every check raises :class:`~socket_core.errors.ReleaseError`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import safetensors.torch
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from torch import Tensor

from protos.release_pb2 import ReleaseManifest
from socket_core import release_files, release_manifest, release_weights
from socket_core.errors import ReleaseError
from socket_core.keys import key_id
from socket_core.models import Network, build_network
from socket_core.release_manifest import (
    MANIFEST,
    MAX_MANIFEST_BYTES,
    OWNER_STATEMENT,
    SCHEMA_VERSION,
    SIGNATURE,
    SIGNATURE_BYTES,
    WEIGHTS,
    ReleaseInfo,
)

__all__ = [
    "MANIFEST",
    "OWNER_STATEMENT",
    "SCHEMA_VERSION",
    "SIGNATURE",
    "WEIGHTS",
    "Release",
    "ReleaseInfo",
    "pack_release",
    "read_info",
    "read_release",
    "unpack_release",
    "write_release",
]

_FILES = (MANIFEST, WEIGHTS, SIGNATURE)


@dataclass(frozen=True)
class Release:
    """A verified release: what its manifest says, and the model's state with its BatchNorm buffers."""

    info: ReleaseInfo
    state: dict[str, Tensor]

    def network(self) -> Network:
        """A new network with these weights, in eval mode and frozen; later changes to it leave ``state`` alone."""
        network = build_network(self.info.backbone, self.info.bottleneck_dim, len(self.info.classes))
        network.load_state_dict(self.state)
        network.requires_grad_(False)
        return network.eval()


def write_release(
    folder: Path,
    network: Network,
    key: Ed25519PrivateKey,
    *,
    name: str,
    created_at: int,
    backbone: str,
    bottleneck_dim: int,
    classes: Sequence[str],
    image_size: int,
    mean: tuple[float, float, float],
    std: tuple[float, float, float],
    source_accuracy: float,
    epochs: int,
    seed: int,
    best_epoch: int,
    confirm_batchnorm: bool,
    settings_digest: str = "",
) -> ReleaseInfo:
    """Write ``folder`` whole or not at all; a release that is there is replaced, anything else is left alone.

    The same arguments write the same bytes.

    Raises:
        ReleaseError: If the owner has not confirmed what BatchNorm statistics give away, if a value could not be
            read back, or if writing fails.
    """
    if confirm_batchnorm is not True:
        raise ReleaseError(
            "a release publishes BatchNorm statistics, the means and variances of features of the private source "
            "images; they make it easier to invert the model and to reconstruct such images",
            where=str(folder),
            remedy="if the owner of the data accepts that, pass --confirm-batchnorm-statistics",
        )
    # Through links to the real folder, so that the folder is exchanged and not the link.
    folder = Path(os.path.realpath(folder))
    _check_replaceable(folder)
    state = {k: v.detach().cpu().contiguous().clone() for k, v in network.state_dict().items()}
    tensors = release_weights.specify(state, where="network")
    release_weights.check_finite(state, where="network")
    weights = safetensors.torch.save(state)
    info = ReleaseInfo(
        name=name,
        created_at=created_at,
        backbone=backbone,
        bottleneck_dim=bottleneck_dim,
        classes=tuple(classes),
        image_size=image_size,
        mean=mean,
        std=std,
        source_accuracy=source_accuracy,
        epochs=epochs,
        seed=seed,
        best_epoch=best_epoch,
        owner_statement=OWNER_STATEMENT,
        digest="",
        settings_digest=settings_digest,
    )
    return _seal(folder, release_manifest.compose(info, tensors, weights, key_id(key.public_key())), weights, key)


def _seal(folder: Path, manifest: ReleaseManifest, weights: bytes, key: Ed25519PrivateKey) -> ReleaseInfo:
    """Check as a site does, by the same code, then sign and write: what a site would refuse is never written."""
    raw = release_manifest.encode(manifest)
    release_weights.check_weights(release_manifest.decode(raw, where=""), weights, where="")
    release_files.publish(folder, {MANIFEST: raw, WEIGHTS: weights, SIGNATURE: release_manifest.sign(key, raw)})
    return release_manifest.describe(manifest, raw)


def read_release(folder: Path, public_key: Ed25519PublicKey) -> Release:
    """Read a release that ``public_key`` signed; everything is checked before a tensor is built.

    Raises:
        ReleaseError: If anything is missing, altered, signed by another key, out of bounds or not as declared.
    """
    for name in _FILES:
        if not os.path.lexists(folder / name):
            raise release_files.missing(folder / name)
    raw, manifest = _read_manifest(folder, public_key)
    weights = _read_weights(folder, manifest)
    return Release(release_manifest.describe(manifest, raw), release_weights.load(weights, where=f"{folder}/"))


def read_info(folder: Path, public_key: Ed25519PublicKey | None) -> tuple[ReleaseInfo, ReleaseManifest]:
    """Read the manifest alone; the weights are neither read nor checked.

    Args:
        folder: The release.
        public_key: The owner's key. With None the signature is not checked: the caller has to say so.

    Raises:
        ReleaseError: If the manifest is missing, malformed or, given a key, not signed by it.
    """
    raw, manifest = _read_manifest(folder, public_key)
    return release_manifest.describe(manifest, raw), manifest


def pack_release(folder: Path) -> dict[str, bytes]:
    """The files of a release by name, to send; damage is refused here, the signature is for the receiver to check.

    Raises:
        ReleaseError: If a file is missing or does not fit the manifest.
    """
    raw, manifest = _read_manifest(folder, None)
    signature = release_files.read_file(folder / SIGNATURE, SIGNATURE_BYTES, exact=True)
    return {MANIFEST: raw, WEIGHTS: _read_weights(folder, manifest), SIGNATURE: signature}


def unpack_release(files: Mapping[str, bytes], cache: Path, public_key: Ed25519PublicKey) -> Path:
    """Verify received files, then put them into ``cache/<digest>/``.

    Nothing is written unless everything fits. A sound copy in the cache is kept as it is, a damaged one replaced.

    Raises:
        ReleaseError: As :func:`read_release`, and for a file that belongs to no release.
    """
    where = "received "
    for name in _FILES:
        if name not in files:
            raise release_files.missing(Path(where + name))
    unknown = sorted(set(files) - set(_FILES))
    if unknown:
        raise ReleaseError(
            f"expected only {', '.join(_FILES)}, found {unknown[0]!r}"[:300],
            where="received release",
            remedy="ask the owner for a release that socket-fl wrote",
        )
    raw, weights = files[MANIFEST], files[WEIGHTS]
    manifest = release_manifest.decode_signed(raw, files[SIGNATURE], public_key, where=where)
    release_weights.check_weights(manifest, weights, where=where)
    release_weights.load(weights, where=where)
    with release_files.locked(cache):
        target = cache / release_manifest.describe(manifest, raw).digest
        if not _holds(target, files):
            release_files.publish(target, files)
    return target


def _read_manifest(folder: Path, public_key: Ed25519PublicKey | None) -> tuple[bytes, ReleaseManifest]:
    raw = release_files.read_file(folder / MANIFEST, MAX_MANIFEST_BYTES)
    if public_key is None:
        return raw, release_manifest.decode(raw, where=f"{folder}/")
    signature = release_files.read_file(folder / SIGNATURE, SIGNATURE_BYTES, exact=True)
    return raw, release_manifest.decode_signed(raw, signature, public_key, where=f"{folder}/")


def _read_weights(folder: Path, manifest: ReleaseManifest) -> bytes:
    """Checked bytes of the weights file; they are read once, so that what was checked is what gets used."""
    data = release_files.read_file(folder / WEIGHTS, manifest.weights_bytes, exact=True)
    release_weights.check_weights(manifest, data, where=f"{folder}/")
    return data


def _holds(folder: Path, files: Mapping[str, bytes]) -> bool:
    """Whether ``folder`` holds exactly ``files``; one that cannot be read does not."""
    try:
        return {path.name for path in folder.iterdir()} == set(files) and all(
            release_files.read_file(folder / name, len(data)) == data for name, data in files.items()
        )
    except (ReleaseError, OSError):
        return False


def _check_replaceable(folder: Path) -> None:
    """Refuse to replace a folder that holds anything but a release."""
    try:
        foreign = sorted({path.name for path in folder.iterdir()} - set(_FILES))
    except FileNotFoundError:
        foreign = []
    except OSError:
        foreign = [folder.name]  # A file, or a folder that does not show what it holds.
    if foreign:
        raise ReleaseError(
            f"expected a new folder or an older release, found {foreign[0]!r}, which replacing would delete",
            where=str(folder),
            remedy="choose another folder",
        )
