"""The weights of a release: size, hash and header are checked before a tensor is built."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from protos.release_pb2 import ReleaseManifest, TensorSpec
from socket_core.errors import ConfigError, ReleaseError
from socket_core.models import network_shapes
from socket_core.release_manifest import GET_AGAIN, MANIFEST, WEIGHTS

MAX_HEADER_BYTES: Final = 8 * 2**20
_OWNER = "the owner has to write the release again"


@dataclass(frozen=True)
class _DType:
    torch: torch.dtype
    safetensors: str
    size: int


_DTYPES: Final = {
    "float32": _DType(torch.float32, "F32", 4),
    "float16": _DType(torch.float16, "F16", 2),
    "bfloat16": _DType(torch.bfloat16, "BF16", 2),
    "int64": _DType(torch.int64, "I64", 8),
}
_NAMES: Final = {entry.torch: name for name, entry in _DTYPES.items()}


def specify(state: Mapping[str, Tensor], *, where: str) -> list[TensorSpec]:
    """One :class:`TensorSpec` a tensor, sorted by key.

    Raises:
        ReleaseError: If a tensor is of a dtype that no release holds.
    """
    specs = []
    for key in sorted(state):
        dtype = state[key].dtype
        if dtype not in _NAMES:
            raise ReleaseError(
                f"tensor {key!r} is of {dtype}; a release holds only {', '.join(_DTYPES)}",
                where=where,
                remedy="convert the network to float32",
            )
        specs.append(TensorSpec(key=key, dtype=_NAMES[dtype], shape=state[key].shape))
    return specs


def check_weights(manifest: ReleaseManifest, data: bytes, *, where: str) -> None:
    """Check the weights file against its manifest, and both against the network that the manifest names.

    Raises:
        ReleaseError: At the first thing that does not fit; no tensor has been built then.
    """
    if len(data) != manifest.weights_bytes:
        raise ReleaseError(
            f"expected {manifest.weights_bytes} bytes, found {len(data)}", where=f"{where}{WEIGHTS}", remedy=GET_AGAIN
        )
    found = hashlib.sha256(data).digest()
    if found != manifest.weights_sha256:
        raise ReleaseError(
            f"weights were altered: expected sha256 {manifest.weights_sha256.hex()}, found {found.hex()}",
            where=f"{where}{WEIGHTS}",
            remedy=GET_AGAIN,
        )
    specs = _specs(manifest, where)
    header = read_header(data, where=where)
    _same_keys(specs, header, f"{where}{WEIGHTS}", "the weights file")
    for key, spec in specs.items():
        dtype, shape = header[key]
        if (dtype, shape) != (_DTYPES[spec.dtype].safetensors, tuple(spec.shape)):
            raise ReleaseError(
                f"tensor {key!r}: the manifest says {_DTYPES[spec.dtype].safetensors} {tuple(spec.shape)}, "
                f"the weights file holds {dtype} {shape}",
                where=f"{where}{WEIGHTS}",
                remedy=_OWNER,
            )
    _check_network(manifest, specs, where)


def load(data: bytes, *, where: str) -> dict[str, Tensor]:
    """Build the tensors of checked weights; NaN and infinity are refused.

    Raises:
        ReleaseError: If the data is no safetensors file or a weight is not finite.
    """
    try:
        state: dict[str, Tensor] = safetensors.torch.load(data)
    except (SafetensorError, ValueError, KeyError) as error:
        raise ReleaseError("weights cannot be decoded", where=f"{where}{WEIGHTS}", remedy=GET_AGAIN) from error
    check_finite(state, where=f"{where}{WEIGHTS}")
    return state


def check_finite(state: Mapping[str, Tensor], *, where: str) -> None:
    """Refuse NaN and infinity.

    Raises:
        ReleaseError: At the first tensor, by key, that holds one.
    """
    for key in sorted(state):
        if state[key].is_floating_point() and not bool(torch.isfinite(state[key]).all()):
            raise ReleaseError(
                f"tensor {key!r} holds NaN or infinity",
                where=where,
                remedy="the owner has to train again, with a lower learning rate if training diverged",
            )


def _specs(manifest: ReleaseManifest, where: str) -> dict[str, TensorSpec]:
    """The manifest's tensors by key; each key once and each dtype an allowed one."""
    specs: dict[str, TensorSpec] = {}
    for spec in manifest.tensors:
        problem = ""
        if len(spec.key) > 300:
            problem = "has a key of more than 300 characters"
        elif spec.key in specs:
            problem = "is listed twice"
        elif spec.dtype not in _DTYPES:
            problem = f"is of dtype {spec.dtype[:20]!r}; a release holds only {', '.join(_DTYPES)}"
        if problem:
            raise ReleaseError(f"tensor {spec.key[:300]!r} {problem}", where=f"{where}{MANIFEST}", remedy=_OWNER)
        specs[spec.key] = spec
    return specs


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    out = dict(pairs)
    if len(out) != len(pairs):
        raise ValueError("a key occurs twice")
    return out


def read_header(data: bytes, *, where: str) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Dtype and shape of each tensor in a safetensors file, from its header alone.

    Raises:
        ReleaseError: If the header is malformed or the tensors do not fill the file exactly.
    """
    try:
        return _parse_header(data)
    except (ValueError, RecursionError) as error:
        raise ReleaseError(
            f"weights file has a malformed header: {str(error)[:200]}", where=f"{where}{WEIGHTS}", remedy=_OWNER
        ) from error


def _parse_header(data: bytes) -> dict[str, tuple[str, tuple[int, ...]]]:
    length = int.from_bytes(data[:8], "little")
    if len(data) < 8 or not 2 <= length <= min(MAX_HEADER_BYTES, len(data) - 8):
        raise ValueError(f"its length field says {length} bytes")
    header = json.loads(data[8 : 8 + length].decode("utf-8"), object_pairs_hook=_unique)
    if not isinstance(header, dict):
        raise ValueError("it is no JSON object")
    sizes = {entry.safetensors: entry.size for entry in _DTYPES.values()}
    out, spans = {}, []
    for key, entry in header.items():
        if not isinstance(entry, dict) or entry.keys() != {"dtype", "shape", "data_offsets"}:
            raise ValueError(f"entry {key!r} is no tensor")
        dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
        if not isinstance(dtype, str) or dtype not in sizes:
            raise ValueError(f"tensor {key!r} is of dtype {dtype!r}")
        if not (_naturals(shape) and len(shape) <= 8 and _naturals(offsets) and len(offsets) == 2):
            raise ValueError(f"tensor {key!r} has no sound shape and offsets")
        if offsets[1] - offsets[0] != math.prod(shape) * sizes[dtype]:
            raise ValueError(f"offsets of tensor {key!r} do not fit its shape")
        out[key] = (dtype, tuple(shape))
        spans.append((offsets[0], offsets[1]))
    end = 0
    for begin, stop in sorted(spans):
        if begin != end:
            raise ValueError("tensors overlap or leave a gap")
        end = stop
    if end != len(data) - 8 - length:
        raise ValueError("bytes follow the last tensor, or are missing")
    return out


def _naturals(value: object) -> bool:
    # bool is an int to Python, and JSON's true is no length.
    return isinstance(value, list) and all(type(n) is int and 0 <= n < 2**48 for n in value)


def _same_keys(expected: Iterable[str], found: Iterable[str], where: str, holder: str) -> None:
    missing, extra = sorted(set(expected) - set(found)), sorted(set(found) - set(expected))
    if missing:
        raise ReleaseError(f"{holder} lacks tensor {missing[0]!r} ({len(missing)} missing)", where=where, remedy=_OWNER)
    if extra:
        first = extra[0][:300]
        raise ReleaseError(f"{holder} has an extra tensor {first!r} ({len(extra)} extra)", where=where, remedy=_OWNER)


def _check_network(manifest: ReleaseManifest, specs: Mapping[str, TensorSpec], where: str) -> None:
    where = f"{where}{MANIFEST}"
    try:
        # Shapes without memory, however large the manifest says the network is.
        wanted = network_shapes(manifest.backbone, manifest.bottleneck_dim, len(manifest.classes))
    except ConfigError as error:
        raise ReleaseError(error.what, where=where, remedy=f"{_OWNER}, or install a build that has it") from error
    named = f"{manifest.backbone} with bottleneck {manifest.bottleneck_dim} and {len(manifest.classes)} classes"
    _same_keys(wanted, specs, where, f"manifest of a {named}")
    for key, tensor in wanted.items():
        floating = specs[key].dtype != "int64"
        if tuple(tensor.shape) != tuple(specs[key].shape) or tensor.is_floating_point() != floating:
            raise ReleaseError(
                f"tensor {key!r}: {named} needs {tensor.dtype} {tuple(tensor.shape)}, "
                f"the release holds {specs[key].dtype} {tuple(specs[key].shape)}",
                where=where,
                remedy=_OWNER,
            )
