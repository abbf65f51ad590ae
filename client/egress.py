"""The one place through which anything leaves a site.

Only what is declared here may leave, whatever the rest of the code does: known payloads under the site's own name,
in them the fields listed here, and arrays of the type and length that the payload states, to the byte. No field is
for a loss, a clip fraction, the number of TI pairs or the size of a batch of them. What leaves is written down first
(:mod:`client.journal`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from flwr.app import Array, ArrayRecord, RecordDict
from google.protobuf.message import DecodeError
from numpy.typing import NDArray

from client.journal import Journal, Pairs, entry_of
from protos.codec import array_record, kind_of, values_of, wire_of
from protos.release_pb2 import TensorSpec
from protos.wire_pb2 import Enrolment, Evaluation, Refusal, Update
from socket_core.config import UpdateType
from socket_core.errors import PolicyError

Outgoing = Enrolment | Update | Evaluation | Refusal
KINDS: dict[str, type[Outgoing]] = {
    "Enrolment": Enrolment,
    "Update": Update,
    "Evaluation": Evaluation,
    "Refusal": Refusal,
}
"""Payloads that may leave."""

FIELDS: dict[str, frozenset[str]] = {
    "Enrolment": frozenset(
        {"schema_version", "site", "modality", "has_release", "further_release_digests"}
        | {"counts", "scores", "parameters_sha256"}
    ),
    "Update": frozenset(
        {"schema_version", "experiment", "site", "round", "tensors", "batchnorm", "examples", "delta_sha256", "scales"}
    ),
    "Evaluation": frozenset(
        {"schema_version", "experiment", "site", "round", "held_out", "transductive", "validation"}
    ),
    "Refusal": frozenset({"schema_version", "site", "reason"}),
}
"""Fields that may leave in each: a field that is new on the wire stays at home until it is listed here."""

TYPES: tuple[UpdateType, ...] = ("float32", "float16", "int8")
"""Of a change; all else is float32."""


@dataclass(frozen=True)
class Gate:
    """What one site lets out.

    Attributes:
        site: The name that every payload must carry.
        journal: The file that each message is written down in before it leaves.
        statistics: Whether BatchNorm statistics may leave (``bn_policy: pooled``).
        held_out: Whether confusion counts on images put aside for tests may leave.
        transductive: Whether those on the images that it trains on may leave (simulation only).
        validation: Whether label-free scores may leave.
        translator: Whether a translator may leave.
    """

    site: str
    journal: Path
    statistics: bool = False
    held_out: bool = False
    transductive: bool = False
    validation: bool = False
    translator: bool = False


def seal(records: RecordDict, gate: Gate, *, pairs: Pairs = "none") -> RecordDict:
    """Checks what is about to leave and writes it down first.

    Args:
        records: The message.
        gate: Of this site.
        pairs: What the message owes to TI pairs, for the journal.

    Raises:
        PolicyError: If anything is not declared; nothing has left then.
        PrivacyError: If the journal is missing, altered or damaged; nothing has left then.
    """
    payload, content = _payload(records)
    if payload.site != gate.site:
        raise _undeclared("a payload under another name")
    if isinstance(payload, Evaluation) and (
        (payload.held_out and not gate.held_out) or (payload.transductive and not gate.transductive)
    ):
        raise _undeclared("confusion counts")
    if isinstance(payload, Evaluation) and payload.HasField("validation") and not gate.validation:
        raise _undeclared("a label-free score")
    if isinstance(payload, Update) and not gate.translator and any(map(_is_translators, payload.tensors)):
        raise _undeclared("a translator")
    arrays = array_record(records)
    sizes = declared_arrays(payload, gate)
    if extra := sorted(arrays.keys() - sizes.keys()):
        raise _undeclared(f"array {extra[0]!r}")
    types = {"delta": payload.tensors[0].dtype} if isinstance(payload, Update) and payload.tensors else {}
    leaving = {
        name: (array.data, _values(name, array, sizes[name], types.get(name, "float32")))
        for name, array in arrays.items()
    }
    _check_specs(payload, leaving)
    Journal(gate.journal).write(entry_of(payload, content, leaving, pairs))
    return records


def _values(name: str, array: Array, size: int, dtype: str) -> NDArray[np.generic]:
    """What is in an array, which must be ``size`` values of ``dtype`` and nothing beside them."""
    if array.dtype != dtype or dtype not in TYPES or tuple(array.shape) != (size,):
        raise _undeclared(f"array {name!r} as {array.dtype} {tuple(array.shape)}")
    values = values_of(array)
    # Written out again they must give the same bytes: something could ride behind them.
    if values is None or values.shape != (size,) or str(values.dtype) != dtype or Array(values).data != array.data:
        raise _undeclared(f"array {name!r} with other content than it says")
    return values


def _check_specs(payload: Outgoing, arrays: Mapping[str, object]) -> None:
    """An update's lists of tensors must be what the arrays hold."""
    if not isinstance(payload, Update):
        return
    for specs, types in ((payload.tensors, TYPES), (payload.batchnorm, ("float32",))):
        keys = [spec.key for spec in specs]
        if len(set(keys)) != len(keys):
            raise _undeclared("a tensor listed twice")
        if other := [spec.dtype for spec in specs if spec.dtype not in types or spec.dtype != specs[0].dtype]:
            raise _undeclared(f"a tensor of {other[0]!r}")
    quantised = bool(payload.tensors) and payload.tensors[0].dtype == "int8"
    if len(payload.scales) != (len(payload.tensors) if quantised else 0):
        raise _undeclared(f"{len(payload.scales)} scales of {len(payload.tensors)} tensors")
    if payload.tensors and "delta" not in arrays:
        raise _undeclared("a list of tensors without them")


def _is_translators(spec: TensorSpec) -> bool:
    """Whether a tensor belongs to a translator or to its discriminator."""
    return spec.key.startswith(("translator.", "discriminator."))


def declared_arrays(payload: Outgoing, gate: Gate) -> dict[str, int]:
    """Arrays that may leave with a payload, and their lengths: those of the tensors that it lists."""
    if not isinstance(payload, Update):
        return {}
    sizes = {"delta": sum(math.prod(spec.shape) for spec in payload.tensors)}
    if gate.statistics and payload.batchnorm:
        channels = sum(math.prod(spec.shape) for spec in payload.batchnorm)
        sizes |= {"bn_mean": channels, "bn_var": channels}
    return sizes


def _payload(records: RecordDict) -> tuple[Outgoing, bytes]:
    """The payload and its bytes, which must be all that there is beside arrays."""
    kind, wire = kind_of(records), wire_of(records)
    if kind not in KINDS or wire is None:
        raise _undeclared(f"a payload {kind!r}")
    if extra := sorted(records.keys() - {"wire", "arrays"}):
        raise _undeclared(f"record {extra[0]!r}")
    if "arrays" in records and not isinstance(records["arrays"], ArrayRecord):
        raise _undeclared("a record 'arrays' that holds something else")
    content = wire.get("payload")
    if wire.keys() != {"kind", "payload"} or not isinstance(content, bytes):
        raise _undeclared("a wire record with more than a payload")
    payload = KINDS[kind]()
    try:
        payload.ParseFromString(content)
    except DecodeError:
        raise _undeclared("a payload that cannot be read") from None
    if extra := sorted({field.name for field, _ in payload.ListFields()} - FIELDS[kind]):
        raise _undeclared(f"field {extra[0]!r} of {kind}")
    payload.DiscardUnknownFields()
    if payload.SerializeToString(deterministic=True) != content:
        raise _undeclared(f"unknown fields in {kind}")
    return payload, content


def _undeclared(what: str) -> PolicyError:
    return PolicyError(f"{what} is not declared and may not leave", where="egress", remedy="this is a fault: report it")
