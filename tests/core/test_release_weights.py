"""Reading a release: weights that are altered, malformed or of another network are refused before use."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import safetensors.torch
import torch

from protos.release_pb2 import ReleaseManifest
from socket_core import release_weights
from socket_core.errors import ReleaseError
from socket_core.release import WEIGHTS, pack_release, read_release, unpack_release
from tests.core.release_builders import PUBLIC, contents, refused, resign


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
