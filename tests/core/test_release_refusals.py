"""Reading a release: missing files, other signatures and unfitting manifests are refused before use."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from protos.release_pb2 import ReleaseManifest
from socket_core import release_manifest
from socket_core.errors import ReleaseError
from socket_core.keys import key_id, short
from socket_core.release import MANIFEST, SIGNATURE, pack_release, read_release, write_release
from tests.core.release_builders import ARGS, FILES, KEY, OTHER, PUBLIC, contents, refused, resign, resign_raw

# Reading: files and signature.


@pytest.mark.parametrize("name", FILES)
def test_missing_file(good: Path, tmp_path: Path, name: str) -> None:
    files = contents(good)
    del files[name]
    error = refused(files, "missing", tmp_path)
    assert error.where.endswith(name)
    with pytest.raises(ReleaseError, match="missing"):
        pack_release(tmp_path / "damaged")


def test_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(ReleaseError, match="missing"):
        read_release(tmp_path / "none", PUBLIC)


@pytest.mark.parametrize("name", FILES)
def test_files_that_are_none(folder: Path, name: str) -> None:
    (folder / name).unlink()
    os.mkfifo(folder / name)
    with pytest.raises(ReleaseError, match="found something else"):
        read_release(folder, PUBLIC)
    (folder / name).unlink()
    (folder / name).mkdir()
    with pytest.raises(ReleaseError):
        read_release(folder, PUBLIC)


def test_other_key(good: Path, tmp_path: Path, network: Any) -> None:
    write_release(tmp_path / "other", network, OTHER, **ARGS)
    error = refused(contents(tmp_path / "other"), "signed by another key", tmp_path)
    assert short(key_id(PUBLIC)) in error.what
    assert short(key_id(OTHER.public_key())) in error.what
    assert error.where.endswith(SIGNATURE)


def test_altered_manifest(good: Path, tmp_path: Path) -> None:
    files = contents(good)
    manifest = ReleaseManifest.FromString(files[MANIFEST])
    manifest.source_accuracy = 0.99
    error = refused({**files, MANIFEST: release_manifest.encode(manifest)}, "signature was altered", tmp_path)
    assert short(key_id(PUBLIC)) in error.what
    refused({**files, MANIFEST: b""}, "signature was altered", tmp_path)


def test_signature_of_another_purpose(good: Path, tmp_path: Path) -> None:
    files = contents(good)
    refused({**files, SIGNATURE: KEY.sign(files[MANIFEST])}, "signature was altered", tmp_path)


@pytest.mark.parametrize("signature", [b"", b"\0" * 63, b"\0" * 65])
def test_signature_of_another_length(good: Path, tmp_path: Path, signature: bytes) -> None:
    refused({**contents(good), SIGNATURE: signature}, f"expected .*64 bytes, found {len(signature)}", tmp_path)


def test_manifest_names_another_signer(good: Path, tmp_path: Path) -> None:
    def change(m: ReleaseManifest) -> None:
        m.public_key_id = bytes.fromhex(key_id(OTHER.public_key()))

    refused(resign(contents(good), change), "names key .* as its signer", tmp_path)


# Reading: the manifest.


def test_unknown_schema_version(good: Path, tmp_path: Path) -> None:
    files = resign(contents(good), lambda m: setattr(m, "schema_version", 2))
    refused(files, "unknown schema version 2; this build reads version 1", tmp_path)
    # A later version may have fields that this build does not know; the version is still what is wrong.
    refused(resign_raw(files, files[MANIFEST] + b"\xf8\x07\x01"), "unknown schema version 2", tmp_path)


@pytest.mark.parametrize("tail", [b"\xf8\x07\x01", b"\x08\x01"])
def test_trailing_bytes(good: Path, tmp_path: Path, tail: bytes) -> None:
    files = contents(good)
    refused(resign_raw(files, files[MANIFEST] + tail), "unknown fields or trailing bytes", tmp_path)


def test_undecodable_manifest(good: Path, tmp_path: Path) -> None:
    files = contents(good)
    refused(resign_raw(files, files[MANIFEST] + b"\xff"), "cannot be decoded", tmp_path)
    refused(resign_raw(files, b"\x12\x02\xff\xff"), "cannot be decoded", tmp_path)  # text that is not UTF-8


def test_huge_manifest_is_not_read(good: Path, tmp_path: Path) -> None:
    files = contents(good)
    raw = files[MANIFEST] + b"\0" * (4 * 2**20)
    refused(resign_raw(files, raw), "at most 4194304 bytes", tmp_path)
    with pytest.raises(ReleaseError, match="at most 4194304 bytes"):
        release_manifest.decode(raw, where="")


BAD_MANIFESTS: list[tuple[str, Callable[[ReleaseManifest], object], str]] = [
    ("image size", lambda m: setattr(m, "image_size", 2**31), "image_size"),
    ("bottleneck", lambda m: setattr(m, "bottleneck_dim", 2**31), "bottleneck_dim"),
    ("no preprocessing", lambda m: m.ClearField("preprocessing"), "3 finite channel means"),
    ("std", lambda m: m.preprocessing.std.append(1.0), "3 finite channel stds"),
    ("hash", lambda m: setattr(m, "weights_sha256", b"short"), "weights_sha256 of 32 bytes"),
    ("size", lambda m: setattr(m, "weights_bytes", 2**40), "weights_bytes"),
    ("key id", lambda m: setattr(m, "public_key_id", b""), "public_key_id of 32 bytes"),
    ("confirmation", lambda m: setattr(m, "publishes_batchnorm_statistics", False), "confirmation"),
    ("statement", lambda m: setattr(m, "owner_statement", ""), "owner_statement"),
    ("backbone", lambda m: setattr(m, "backbone", "pickle"), "unknown backbone 'pickle'"),
    ("class order kept", lambda m: m.classes.append("x\n"), "class names"),
    ("one class more", lambda m: m.classes.append("stool"), "needs torch.float32 .4,"),
    ("tensor twice", lambda m: m.tensors.append(m.tensors[0]), "listed twice"),
    ("tensor missing", lambda m: m.tensors.pop(), "weights file has an extra tensor 'classifier"),
    ("tensor extra", lambda m: m.tensors.add(key="evil", dtype="int64"), "weights file lacks tensor 'evil'"),
    ("tensor key", lambda m: m.tensors.add(key="k" * 100_000, dtype="int64"), "more than 300 characters"),
    ("dtype unknown", lambda m: setattr(m.tensors[0], "dtype", "float64"), "is of dtype 'float64'"),
    ("dtype other", lambda m: setattr(m.tensors[0], "dtype", "float16"), "manifest says F16 .*file holds F32"),
    ("shape", lambda m: m.tensors[0].shape.append(-1), "manifest says F32"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "match"), [case[1:] for case in BAD_MANIFESTS], ids=[c[0] for c in BAD_MANIFESTS])
def test_bad_manifest(good: Path, tmp_path: Path, change: Callable[[ReleaseManifest], object], match: str) -> None:
    refused(resign(contents(good), change), match, tmp_path)
