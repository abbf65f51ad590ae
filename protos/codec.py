"""Payloads in and out of Flower records; the only place that knows both protobuf and Flower.

Decoding never trusts: a wrong schema, an unknown field layout, a missing array or one of another type is a
:class:`WireError` with the reason that a site may send back.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping, Sequence
from typing import TypeVar

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, RecordDict
from google.protobuf.message import DecodeError
from numpy.typing import NDArray

from protos.release_pb2 import TensorSpec
from protos.wire_pb2 import (
    REASON_MALFORMED,
    REASON_SCHEMA,
    Enrolment,
    EnrolRequest,
    Evaluation,
    Reason,
    Refusal,
    ReleaseFiles,
    RoundRequest,
    Update,
)

SCHEMA_VERSION = 3
ENROL, RELEASE, TRAIN, EVALUATE = "query.enrol", "query.release", "train.round", "evaluate.round"
"""Flower message types."""

Payload = EnrolRequest | Enrolment | ReleaseFiles | RoundRequest | Update | Evaluation | Refusal
P = TypeVar("P", EnrolRequest, Enrolment, ReleaseFiles, RoundRequest, Update, Evaluation, Refusal)
Arrays = Mapping[str, NDArray[np.generic]]


class WireError(Exception):
    """A message that cannot be read; ``reason`` is the code for the other side."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


def encode(payload: Payload, arrays: Arrays | None = None) -> RecordDict:
    """A payload and its flat arrays as Flower records; sets the payload's schema version."""
    payload.schema_version = SCHEMA_VERSION
    wire = ConfigRecord({"kind": payload.DESCRIPTOR.name, "payload": payload.SerializeToString(deterministic=True)})
    records = RecordDict({"wire": wire})
    if arrays:
        records["arrays"] = ArrayRecord({key: Array(np.ascontiguousarray(a)) for key, a in arrays.items()})
    return records


def wire_of(records: RecordDict) -> ConfigRecord | None:
    """The record of the payload, if there is one.

    Looked up in the whole and not in Flower's view by type: that view and its owner refer to each other, so that a
    message looked at through it stays in memory until Python looks for cycles.
    """
    wire = records.get("wire")
    return wire if isinstance(wire, ConfigRecord) else None


def array_record(records: RecordDict) -> ArrayRecord:
    """The record of the arrays, empty if there is none; looked up as in :func:`wire_of`."""
    arrays = records.get("arrays")
    return arrays if isinstance(arrays, ArrayRecord) else ArrayRecord()


def kind_of(records: RecordDict) -> str:
    """Name of the payload's kind, or "" if there is none."""
    wire = wire_of(records)
    kind = wire.get("kind") if wire is not None else None
    return kind if isinstance(kind, str) else ""


def decode(records: RecordDict, kind: type[P]) -> P:
    """The payload, which must be of ``kind``.

    Raises:
        WireError: With ``REASON_SCHEMA`` for another schema version, else ``REASON_MALFORMED``.
    """
    wire = wire_of(records)
    payload = wire.get("payload") if wire is not None else None
    wanted = kind.DESCRIPTOR.name
    if kind_of(records) != wanted or not isinstance(payload, bytes):
        raise WireError(REASON_MALFORMED, f"expected payload {wanted}, found {kind_of(records)[:40]!r}")
    out = kind()
    try:
        out.ParseFromString(payload)
    except DecodeError:
        raise WireError(REASON_MALFORMED, f"{wanted} cannot be decoded") from None
    if out.schema_version != SCHEMA_VERSION:
        raise WireError(REASON_SCHEMA, f"schema version {out.schema_version}, this build speaks {SCHEMA_VERSION}")
    return out


def arrays_of(records: RecordDict, expected: Mapping[str, tuple[str, int]]) -> dict[str, NDArray[np.generic]]:
    """The flat arrays, which must be exactly ``expected``: name to (dtype, length).

    Raises:
        WireError: If a name is missing or extra, or an array is not flat, of that type and length.
    """
    found = dict(array_record(records).items())
    if found.keys() != expected.keys():
        raise WireError(REASON_MALFORMED, f"arrays {sorted(found)}, expected {sorted(expected)}")
    out = {}
    for name, (dtype, size) in expected.items():
        array = found[name]
        # Declared type and shape are checked before a byte is decoded.
        if array.dtype != dtype or tuple(array.shape) != (size,):
            raise WireError(
                REASON_MALFORMED, f"array {name}: {array.dtype} {tuple(array.shape)}, expected {dtype} ({size},)"
            )
        value = values_of(array)
        if value is None:
            raise WireError(REASON_MALFORMED, f"array {name} cannot be decoded")
        if value.dtype != np.dtype(dtype) or value.shape != (size,):
            raise WireError(REASON_MALFORMED, f"array {name} is not what it declares")
        out[name] = value
    return out


def values_of(array: Array) -> NDArray[np.generic] | None:
    """The values inside, not copied and not to be written to; None where the bytes are not one flat array and no more.

    Read here and not by NumPy's own reader, which copies, takes archives too, and ignores what follows.
    """
    file = io.BytesIO(array.data)
    try:
        read = _HEADERS[np.lib.format.read_magic(file)]
        shape, _, dtype = read(file)
    except Exception:  # of hostile bytes: beside ValueError also KeyError, MemoryError, TokenError and others
        return None
    start = file.tell()
    if array.stype != "numpy.ndarray":
        return None
    # NumPy's reader of headers takes negative sizes, truth values and arrays of arrays for good.
    if len(shape) != 1 or type(shape[0]) is not int or shape[0] < 0 or dtype.hasobject or dtype.subdtype is not None:
        return None
    if len(array.data) - start != shape[0] * dtype.itemsize or dtype.itemsize == 0:
        return None
    return np.frombuffer(array.data, dtype, offset=start)


_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


def reason_name(reason: int) -> str:
    """A refusal's reason as a word, or its number if only a later version knows it."""
    return Reason.Name(reason).removeprefix("REASON_").lower() if reason in Reason.values() else str(reason)


def size_of(records: RecordDict) -> int:
    """Bytes of payload and arrays; Flower's own framing comes on top."""
    wire = wire_of(records)
    payload = wire.get("payload") if wire is not None else b""
    total = len(payload) if isinstance(payload, bytes) else 0
    return total + sum(len(array.data) for array in array_record(records).values())


def specs_to_proto(specs: Sequence[tuple[str, tuple[int, ...]]], dtype: str = "float32") -> list[TensorSpec]:
    """Keys, shapes and type as protobuf."""
    return [TensorSpec(key=key, dtype=dtype, shape=shape) for key, shape in specs]


def sha256(flat: NDArray[np.generic]) -> bytes:
    """sha256 of an array's bytes in C order."""
    return hashlib.sha256(np.ascontiguousarray(flat).data).digest()


def refusal(site: str, reason: Reason) -> RecordDict:
    """A refusal as records."""
    return encode(Refusal(site=site, reason=reason))
