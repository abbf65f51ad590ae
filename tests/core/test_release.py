"""Releases: what is written reads back, and whatever does not fit is refused before it is used."""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.util
import json
import math
import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from protos.release_pb2 import ReleaseManifest
from socket_core import release_manifest, release_weights
from socket_core.errors import ReleaseError
from socket_core.keys import key_id, short
from socket_core.models import build_network
from socket_core.release import (
    MANIFEST,
    OWNER_STATEMENT,
    SIGNATURE,
    WEIGHTS,
    pack_release,
    read_info,
    read_release,
    unpack_release,
    write_release,
)

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
    network = build_network("tiny", 8, 3, seed=5)
    network(torch.rand(4, 3, 48, 48, generator=torch.Generator().manual_seed(1)))  # moves the BatchNorm statistics
    return network


@pytest.fixture(scope="module")
def network() -> Any:
    return make_network()


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory, network: Any) -> Path:
    """A sound release; tests copy it before they damage it."""
    folder = tmp_path_factory.mktemp("good") / "release"
    write_release(folder, network, KEY, **ARGS)
    return folder


@pytest.fixture
def folder(good: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(good, tmp_path / "release"))


def contents(folder: Path) -> dict[str, bytes]:
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
    signature = release_manifest.sign(KEY, raw)
    return {MANIFEST: raw, WEIGHTS: files[WEIGHTS] if weights is None else weights, SIGNATURE: signature}


def no_tensor(*args: object, **kwargs: object) -> Any:
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


# What is written reads back.


def test_round_trip(good: Path, network: Any) -> None:
    release = read_release(good, PUBLIC)
    expected = {key: value for key, value in ARGS.items() if key != "confirm_batchnorm"}
    found = dataclasses.asdict(release.info)
    digest = hashlib.sha256((good / MANIFEST).read_bytes()).hexdigest()
    assert found == {**expected, "owner_statement": OWNER_STATEMENT, "digest": digest}
    assert release.state.keys() == network.state_dict().keys()
    for key, value in network.state_dict().items():
        assert torch.equal(release.state[key], value)
        assert release.state[key].dtype == value.dtype


def test_network_is_frozen_and_its_own(good: Path, network: Any) -> None:
    release = read_release(good, PUBLIC)
    copy = release.network()
    assert not any(module.training for module in copy.modules())
    assert not any(p.requires_grad for p in copy.parameters())
    x = torch.rand(2, 3, 48, 48)
    reference = build_network("tiny", 8, 3)
    reference.load_state_dict(network.state_dict())
    torch.testing.assert_close(copy(x), reference.eval()(x), rtol=0, atol=0)
    torch.nn.init.zeros_(copy.get_parameter("bottleneck.0.weight"))
    assert release.state["bottleneck.0.weight"].any()
    assert release.network().get_parameter("bottleneck.0.weight").any()


def test_writing_leaves_the_network_and_global_random_state_alone(tmp_path: Path) -> None:
    network = make_network()
    before, state = torch.get_rng_state(), {k: v.clone() for k, v in network.state_dict().items()}
    write_release(tmp_path / "r", network, KEY, **ARGS)
    read_release(tmp_path / "r", PUBLIC).network()
    assert torch.equal(before, torch.get_rng_state())
    assert network.training
    assert all(p.requires_grad for p in network.parameters())
    assert all(torch.equal(state[k], v) for k, v in network.state_dict().items())


def test_same_input_writes_same_bytes(tmp_path: Path, good: Path) -> None:
    write_release(tmp_path / "again", make_network(), KEY, **ARGS)
    assert contents(tmp_path / "again") == contents(good)


@settings(max_examples=25, deadline=None)
@given(
    mean=st.tuples(*[st.floats(allow_nan=False, allow_infinity=False)] * 3),
    std=st.tuples(*[st.floats(min_value=0, exclude_min=True, allow_infinity=False)] * 3),
    accuracy=st.floats(0, 1),
    seed=st.integers(-(2**63), 2**63 - 1),
    epochs=st.integers(0, 2**32 - 1),
)
def test_numbers_round_trip(mean: Any, std: Any, accuracy: float, seed: int, epochs: int) -> None:
    info = release_manifest.ReleaseInfo(
        name="n", created_at=0, backbone="tiny", bottleneck_dim=1, classes=("a",), image_size=1, mean=mean, std=std,
        source_accuracy=accuracy, epochs=epochs, seed=seed, best_epoch=epochs, owner_statement="s", digest="",
    )  # fmt: skip
    raw = release_manifest.encode(release_manifest.compose(info, [], b"w", key_id(PUBLIC)))
    found = release_manifest.describe(release_manifest.decode(raw, where=""), raw)
    assert dataclasses.replace(found, digest="") == info


def test_half_precision(tmp_path: Path) -> None:
    write_release(tmp_path / "r", make_network().to(torch.bfloat16), KEY, **ARGS)
    release = read_release(tmp_path / "r", PUBLIC)
    assert release.state["bottleneck.0.weight"].dtype == torch.bfloat16
    assert release.network().get_parameter("bottleneck.0.weight").dtype == torch.float32


def test_read_info(folder: Path) -> None:
    info, manifest = read_info(folder, PUBLIC)
    assert info.classes == ARGS["classes"]
    assert manifest.public_key_id.hex() == key_id(PUBLIC)
    assert manifest.publishes_batchnorm_statistics
    assert "easier to invert" in info.owner_statement
    (folder / SIGNATURE).unlink()
    assert read_info(folder, None)[0] == info
    with pytest.raises(ReleaseError, match="missing"):
        read_info(folder, PUBLIC)


# Writing.


@pytest.mark.parametrize("answer", [False, None, 1, "yes"])
def test_owner_has_to_confirm(tmp_path: Path, network: Any, answer: object) -> None:
    with pytest.raises(ReleaseError, match="BatchNorm statistics.*easier to invert") as caught:
        write_release(tmp_path / "new" / "r", network, KEY, **{**ARGS, "confirm_batchnorm": answer})
    assert "--confirm-batchnorm-statistics" in caught.value.remedy
    assert not list(tmp_path.iterdir())


BAD_VALUES: list[tuple[str, Any, str]] = [
    ("name", "", "a name"),
    ("name", "x" * 201, "a name"),
    ("name", "bell\x07", "printable"),
    ("name", "\ud800", "does not fit its field"),
    ("name", 3, "does not fit its field"),
    ("created_at", -1, "created_at"),
    ("created_at", 2**60, "created_at"),
    ("created_at", 2**63, "does not fit its field"),
    ("bottleneck_dim", 0, "bottleneck_dim"),
    ("bottleneck_dim", 65537, "bottleneck_dim"),
    ("bottleneck_dim", 9, "needs"),
    ("backbone", "", "a backbone name"),
    ("backbone", "nope", "unknown backbone"),
    ("backbone", "vgg11_bn", "lacks tensor"),
    ("classes", (), "1 to 100000 classes"),
    ("classes", ("a", "b", ""), "class names"),
    ("classes", ("a", "b", "b"), "all differ.*'b'"),
    ("classes", ("a", "b"), "needs"),
    ("classes", tuple(map(str, range(100_001))), "1 to 100000 classes"),
    ("image_size", 0, "image_size"),
    ("image_size", 4097, "image_size"),
    ("mean", (0.0, 0.0), "3 finite channel means"),
    ("mean", (0.0, 0.0, math.nan), "3 finite channel means"),
    ("std", (1.0, 1.0, 0.0), "3 finite channel stds above 0"),
    ("std", (1.0, 1.0, math.inf), "3 finite channel stds"),
    ("source_accuracy", 1.01, "source_accuracy"),
    ("source_accuracy", math.nan, "source_accuracy"),
    ("best_epoch", 21, "best_epoch"),
    ("epochs", -1, "does not fit its field"),
]


@pytest.mark.parametrize(("field", "value", "match"), BAD_VALUES)
def test_bad_values_are_not_written(tmp_path: Path, network: Any, field: str, value: Any, match: str) -> None:
    with pytest.raises(ReleaseError, match=match) as caught:
        write_release(tmp_path / "r", network, KEY, **{**ARGS, field: value})
    assert caught.value.where
    assert caught.value.remedy
    assert len(str(caught.value)) < 1500
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_non_finite_weights_are_not_written(tmp_path: Path, value: float) -> None:
    network = make_network()
    network.bottleneck[1].running_var[2] = value
    with pytest.raises(ReleaseError, match=r"'bottleneck.1.running_var' holds NaN or infinity"):
        write_release(tmp_path / "r", network, KEY, **ARGS)
    assert not list(tmp_path.iterdir())


def test_other_dtypes_are_not_written(tmp_path: Path) -> None:
    with pytest.raises(ReleaseError, match="is of torch.float64"):
        write_release(tmp_path / "r", make_network().double(), KEY, **ARGS)
    assert not list(tmp_path.iterdir())


def test_older_release_is_replaced(folder: Path, network: Any) -> None:
    before = read_info(folder, PUBLIC)[0]
    link = folder.with_name("current")
    link.symlink_to(folder)
    info = write_release(link, network, OTHER, **{**ARGS, "name": "second"})
    assert info.name == "second" != before.name
    assert link.is_symlink()
    assert read_release(folder, OTHER.public_key()).info == info
    assert sorted(path.name for path in folder.parent.iterdir()) == ["current", "release"]


@pytest.mark.parametrize("kind", ["foreign file", "file"])
def test_anything_else_is_not_replaced(tmp_path: Path, network: Any, kind: str) -> None:
    target = tmp_path / "mine"
    kept = target if kind == "file" else target / "thesis.tex"
    kept.parent.mkdir(exist_ok=True)
    kept.write_text("years of work")
    with pytest.raises(ReleaseError, match=f"found '{kept.name}', which replacing would delete"):
        write_release(target, network, KEY, **ARGS)
    assert kept.read_text() == "years of work"
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("fail_at", [1, 2])
def test_failed_replacement_keeps_the_old_release(
    folder: Path, network: Any, monkeypatch: pytest.MonkeyPatch, fail_at: int
) -> None:
    before, real, calls = contents(folder), Path.rename, []

    def rename(source: Path, target: Path) -> None:
        calls.append(source)
        if len(calls) == fail_at:
            raise OSError(5, "Input/output error")
        real(source, target)

    monkeypatch.setattr(Path, "rename", rename)
    with pytest.raises(ReleaseError, match="cannot write the release: Input/output error"):
        write_release(folder, network, KEY, **{**ARGS, "name": "second"})
    assert contents(folder) == before
    assert list(folder.parent.iterdir()) == [folder]


def test_full_disk_leaves_nothing(tmp_path: Path, network: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ReleaseError, match="No space left"):
        write_release(tmp_path / "r", network, KEY, **ARGS)
    assert not list(tmp_path.iterdir())


def test_release_folder_follows_the_umask(tmp_path: Path, network: Any) -> None:
    before = os.umask(0o022)
    try:
        write_release(tmp_path / "r", network, KEY, **ARGS)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "r").stat().st_mode) == 0o755


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


# Reading: the weights.


def test_weights_of_another_length(good: Path, tmp_path: Path) -> None:
    files = contents(good)
    size = len(files[WEIGHTS])
    for data in (files[WEIGHTS][:-1], files[WEIGHTS] + b"\0", b""):
        refused({**files, WEIGHTS: data}, f"expected {size} bytes, found {len(data)}", tmp_path)
        with pytest.raises(ReleaseError, match=f"expected {size} bytes"):
            pack_release(tmp_path / "damaged")


def test_altered_weights(good: Path, tmp_path: Path) -> None:
    files = contents(good)
    data = files[WEIGHTS][:-1] + bytes([files[WEIGHTS][-1] ^ 1])
    refused({**files, WEIGHTS: data}, "weights were altered: expected sha256", tmp_path)
    with pytest.raises(ReleaseError, match="weights were altered"):
        pack_release(tmp_path / "damaged")


def test_weights_of_another_network(good: Path, tmp_path: Path) -> None:
    files = contents(good)
    state = safetensors.torch.load(files[WEIGHTS])
    name = "bottleneck.0.bias"
    for change, match in (
        ({**state, name: torch.zeros(9)}, r"manifest says F32 \(8,\), the weights file holds F32 \(9,\)"),
        ({**state, name: state[name].half()}, r"manifest says F32 \(8,\), the weights file holds F16"),
        ({k: v for k, v in state.items() if k != name}, f"weights file lacks tensor '{name}'"),
        ({**state, "evil": torch.zeros(1)}, "weights file has an extra tensor 'evil'"),
    ):
        refused(resign(files, weights=safetensors.torch.save(change)), match, tmp_path)


def test_weights_and_manifest_agree_and_the_network_does_not(good: Path, tmp_path: Path) -> None:
    files = contents(good)
    state = safetensors.torch.load(files[WEIGHTS])
    bias = "bottleneck.0.bias"
    cases = [
        ({**state, bias: torch.zeros(9)}, r"needs torch.float32 \(8,\), the release holds float32 \(9,\)"),
        ({**state, bias: torch.zeros(8, dtype=torch.int64)}, "the release holds int64"),
        ({k: v for k, v in state.items() if k != bias}, f"manifest of a tiny .* lacks tensor '{bias}'"),
        ({**state, "evil": torch.zeros(1)}, "manifest of a tiny .* has an extra tensor 'evil'"),
    ]
    for other, match in cases:

        def change(m: ReleaseManifest, other: dict[str, torch.Tensor] = other) -> None:
            del m.tensors[:]
            m.tensors.extend(release_weights.specify(other, where=""))

        refused(resign(files, change, safetensors.torch.save(other)), match, tmp_path)


def header_of(entries: object, body: bytes = b"") -> bytes:
    text = entries if isinstance(entries, bytes) else json.dumps(entries).encode()
    return len(text).to_bytes(8, "little") + text + body


def entry(**changes: object) -> dict[str, object]:
    return {"dtype": "F32", "shape": [1], "data_offsets": [0, 4], **changes}


BAD_HEADERS: list[tuple[bytes, str]] = [
    (b"\x02\0\0", "length field"),
    (b"\xff" * 8 + b"{}", "length field"),
    ((3).to_bytes(8, "little") + b"{}", "length field"),
    (header_of(b"[]"), "no JSON object"),
    (header_of(b"\xff\xff"), "malformed header"),
    (header_of(b"{{}}"), "malformed header"),
    (header_of(b"[" * 200_000), "malformed header"),
    (header_of(b'{"a":1,"a":2}'), "occurs twice"),
    (header_of(b'{"a":' + b"9" * 5000 + b"}"), "malformed header"),
    (header_of({"__metadata__": {"format": "pt"}}), "'__metadata__' is no tensor"),
    (header_of({"a": entry(more=1)}), "is no tensor"),
    (header_of({"a": entry(dtype="F64")}), "dtype 'F64'"),
    (header_of({"a": entry(dtype=["F32"])}), "dtype"),
    (header_of({"a": entry(shape=[-1])}), "sound shape"),
    (header_of({"a": entry(shape=[True])}), "sound shape"),
    (header_of({"a": entry(shape=[2**60])}), "sound shape"),
    (header_of({"a": entry(shape=[1] * 9)}), "sound shape"),
    (header_of({"a": entry(shape=1)}), "sound shape"),
    (header_of({"a": entry(data_offsets=[0])}), "sound shape"),
    (header_of({"a": entry(data_offsets=[4, 0])}), "offsets of tensor"),
    (header_of({"a": entry(shape=[2])}), "offsets of tensor"),
    (header_of({"a": entry(), "b": entry()}, b"1234"), "overlap"),
    (header_of({"a": entry(), "b": entry(data_offsets=[8, 12])}, b"1" * 12), "gap"),
    (header_of({"a": entry()}, b"123"), "or are missing"),
    (header_of({"a": entry()}, b"12345"), "bytes follow"),
]  # fmt: skip


@pytest.mark.parametrize(("data", "match"), BAD_HEADERS)
def test_malformed_header(good: Path, tmp_path: Path, data: bytes, match: str) -> None:
    with pytest.raises(ReleaseError, match=f"malformed header.*{match.replace('malformed header', '')}"):
        release_weights.read_header(data, where="")
    refused(resign(contents(good), weights=data), "malformed header", tmp_path)


def test_non_finite_weights_are_refused(good: Path, tmp_path: Path) -> None:
    files = contents(good)
    state = safetensors.torch.load(files[WEIGHTS])
    state["backbone.0.0.weight"][0, 0, 0, 0] = math.nan
    files = resign(files, weights=safetensors.torch.save(state))
    with pytest.raises(ReleaseError, match="'backbone.0.0.weight' holds NaN"):
        unpack_release(files, tmp_path / "cache", PUBLIC)
    assert not list(tmp_path.iterdir())
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    with pytest.raises(ReleaseError, match="'backbone.0.0.weight' holds NaN"):
        read_release(tmp_path, PUBLIC)


# Over the wire.


def test_pack_and_unpack(good: Path, tmp_path: Path) -> None:
    files = pack_release(good)
    assert files == contents(good)
    path = unpack_release(files, tmp_path / "cache", PUBLIC)
    assert path == tmp_path / "cache" / read_info(good, PUBLIC)[0].digest
    assert contents(path) == files
    assert read_release(path, PUBLIC).info == read_info(good, PUBLIC)[0]
    before = path.stat().st_ino
    assert unpack_release(files, tmp_path / "cache", PUBLIC) == path
    assert path.stat().st_ino == before, "a sound copy is kept"


def _as_file(path: Path) -> None:
    shutil.rmtree(path)
    path.write_bytes(b"")


def _as_link(path: Path) -> None:
    elsewhere = path.parent.parent / "elsewhere"
    path.rename(elsewhere)
    (elsewhere / WEIGHTS).write_bytes(b"kept")
    path.symlink_to(elsewhere)


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: (path / WEIGHTS).write_bytes((path / WEIGHTS).read_bytes()[:-9]),
        lambda path: (path / WEIGHTS).write_bytes((path / WEIGHTS).read_bytes()[:-1] + b"x"),
        lambda path: (path / SIGNATURE).unlink(),
        lambda path: (path / "more").write_bytes(b""),
        _as_file,
        _as_link,
    ],
    ids=["truncated", "corrupt", "missing", "extra", "file", "link"],
)
def test_damaged_copy_is_replaced(good: Path, tmp_path: Path, damage: Callable[[Path], object]) -> None:
    files, cache = contents(good), tmp_path / "cache"
    path = unpack_release(files, cache, PUBLIC)
    damage(path)
    assert unpack_release(files, cache, PUBLIC) == path
    assert contents(path) == files
    assert sorted(entry.name for entry in cache.iterdir()) == [".lock", path.name]
    if (tmp_path / "elsewhere").exists():
        assert (tmp_path / "elsewhere" / WEIGHTS).read_bytes() == b"kept", "a link is replaced, never followed"


@pytest.mark.parametrize("name", ["../evil", "weights.pkl", "/etc/passwd", ""])
def test_unknown_file_names(good: Path, tmp_path: Path, name: str) -> None:
    with pytest.raises(ReleaseError, match="expected only manifest.binpb"):
        unpack_release({**contents(good), name: b""}, tmp_path / "cache", PUBLIC)
    assert not list(tmp_path.iterdir())


def test_unusable_cache(good: Path, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("")
    with pytest.raises(ReleaseError, match="cannot use the cache folder"):
        unpack_release(contents(good), tmp_path / "cache", PUBLIC)


# Any damage at all.


@settings(max_examples=120, deadline=None)
@given(name=st.sampled_from(FILES), at=st.integers(0, 2**31), flip=st.integers(1, 255))
def test_one_flipped_byte_is_refused(
    good: Path, tmp_path_factory: pytest.TempPathFactory, name: str, at: int, flip: int
) -> None:
    files = contents(good)
    data = bytearray(files[name])
    data[at % len(data)] ^= flip
    files[name] = bytes(data)
    folder = tmp_path_factory.getbasetemp() / "flipped"
    folder.mkdir(exist_ok=True)
    for file, content in files.items():
        (folder / file).write_bytes(content)
    with pytest.raises(ReleaseError):
        read_release(folder, PUBLIC)
    with pytest.raises(ReleaseError):
        unpack_release(files, folder / "cache", PUBLIC)
    assert not (folder / "cache").exists()


@settings(max_examples=150, deadline=None)
@given(data=st.binary(max_size=300), prefix=st.integers(0, 3000))
def test_random_manifests_raise_only_release_errors(
    good: Path, tmp_path_factory: pytest.TempPathFactory, data: bytes, prefix: int
) -> None:
    folder = tmp_path_factory.getbasetemp() / "random"
    folder.mkdir(exist_ok=True)
    files = contents(good)
    for raw in (data, b"\x08\x01" + data, files[MANIFEST][:prefix] + data):
        # Signed by the right key, so that the decoder is reached.
        for name, content in resign_raw(files, raw).items():
            (folder / name).write_bytes(content)
        for check in (lambda: read_release(folder, PUBLIC), lambda: read_info(folder, None)):
            if raw != files[MANIFEST]:
                with pytest.raises(ReleaseError):
                    check()


# Generated code.


def test_generated_code_is_checked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = Path(__file__).parents[2]
    spec = importlib.util.spec_from_file_location("gen_protos", root / "scripts" / "gen_protos.py")
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    protos = tmp_path / "protos"
    protos.mkdir()
    for name in ("release.proto", "release_pb2.py", "release_pb2.pyi"):
        shutil.copy(root / "protos" / name, protos)
    check = ["--root", str(tmp_path), "--check"]
    assert script.main(check) == 0
    (protos / "release_pb2.py").write_text("# edited by hand\n")
    (protos / "release_pb2.pyi").unlink()
    (protos / "old_pb2.py").write_text("")
    assert script.main(check) == 1
    message = capsys.readouterr().err
    assert "release_pb2.py: out of date" in message
    assert "release_pb2.pyi: missing" in message
    assert "old_pb2.py: no .proto file" in message
    assert "run python scripts/gen_protos.py" in message
    assert script.main(["--root", str(tmp_path)]) == 0
    assert script.main(check) == 0
    assert not (protos / "old_pb2.py").exists()
    (protos / "release.proto").write_text("nonsense")
    assert script.main(check) == 1
    assert "protoc refused" in capsys.readouterr().err
