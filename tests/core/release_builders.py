"""A sound release of a tiny network, ways to damage or sign it anew, and the check that nobody accepts it then."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from protos.release_pb2 import ReleaseManifest
from socket_core import release_manifest
from socket_core.errors import ReleaseError
from socket_core.models import build_network
from socket_core.release import MANIFEST, SIGNATURE, WEIGHTS, read_release, unpack_release, write_release

KEY = Ed25519PrivateKey.from_private_bytes(b"\x01" * 32)
OTHER = Ed25519PrivateKey.from_private_bytes(b"\x02" * 32)
PUBLIC = KEY.public_key()
FILES = (MANIFEST, WEIGHTS, SIGNATURE)
ARGS: dict[str, Any] = {
    "name": "demo",
    "created_at": 1_700_000_000,
    "backbone": "tiny",
    "bottleneck_dim": 8,
    "classes": ("chair", "table", "lämp"),
    "image_size": 48,
    "mean": (0.485, 0.456, 1 / 3),
    "std": (0.229, 0.224, 0.1),
    "source_accuracy": 0.1 + 0.2,
    "epochs": 20,
    "seed": -7,
    "best_epoch": 13,
    "confirm_batchnorm": True,
}


def make_network() -> Any:
    """The same tiny network each time, its statistics away from their initial values."""
    network = build_network("tiny", 8, 3, seed=5)
    network(torch.rand(4, 3, 48, 48, generator=torch.Generator().manual_seed(1)))  # moves the BatchNorm statistics
    return network


@pytest.fixture(scope="module")
def network() -> Any:
    """Shared by the tests of a file, none of which changes it."""
    return make_network()


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory, network: Any) -> Path:
    """A sound release; tests copy it before they damage it."""
    folder = tmp_path_factory.mktemp("good") / "release"
    write_release(folder, network, KEY, **ARGS)
    return folder


@pytest.fixture
def folder(good: Path, tmp_path: Path) -> Path:
    """A copy of the sound release that a test may damage."""
    return Path(shutil.copytree(good, tmp_path / "release"))


def contents(folder: Path) -> dict[str, bytes]:
    """The files of a release by name."""
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def resign(files: dict[str, bytes], change: Callable[[ReleaseManifest], object] = lambda m: None,
           weights: bytes | None = None) -> dict[str, bytes]:  # fmt: skip
    """What an owner's faulty program could sign: a changed manifest, or other weights with a fitting hash."""
    manifest = ReleaseManifest.FromString(files[MANIFEST])
    if weights is not None:
        manifest.weights_bytes, manifest.weights_sha256 = len(weights), hashlib.sha256(weights).digest()
    change(manifest)
    return resign_raw(files, release_manifest.encode(manifest), weights)


def resign_raw(files: dict[str, bytes], raw: bytes, weights: bytes | None = None) -> dict[str, bytes]:
    """The files with ``raw`` as manifest, under a signature that fits."""
    signature = release_manifest.sign(KEY, raw)
    return {MANIFEST: raw, WEIGHTS: files[WEIGHTS] if weights is None else weights, SIGNATURE: signature}


def no_tensor(*args: object, **kwargs: object) -> Any:
    """Stands in for the loader of tensors where none may be built."""
    raise AssertionError("a tensor was built before the checks were done")


def refused(files: dict[str, bytes], match: str, tmp_path: Path) -> ReleaseError:
    """Both ways in refuse ``files`` with the same words, build no tensor and write nothing."""
    folder, cache = tmp_path / "damaged", tmp_path / "cache"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for name, data in files.items():
        (folder / name).write_bytes(data)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(safetensors.torch, "load", no_tensor)
        with pytest.raises(ReleaseError, match=match):
            unpack_release(files, cache, PUBLIC)
        assert not cache.exists()
        with pytest.raises(ReleaseError, match=match) as caught:
            read_release(folder, PUBLIC)
    assert caught.value.where
    assert caught.value.remedy
    assert len(str(caught.value)) < 1500
    return caught.value
