"""The one place through which anything leaves a site, and the journal of what left.

Only what is declared here may leave, whatever the rest of the code does: known payloads under the site's own
name, and arrays of the type and length that the payload states. The journal holds a hash of the payload and
key, type, length and hash of each array, never a value.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from flwr.app import ArrayRecord, RecordDict
from google.protobuf.message import DecodeError

from protos.codec import kind_of, size_of
from protos.release_pb2 import TensorSpec
from protos.wire_pb2 import Enrolment, Evaluation, Refusal, Update
from socket_core.errors import PolicyError

Outgoing = Enrolment | Update | Evaluation | Refusal
KINDS: dict[str, type[Outgoing]] = {
    "Enrolment": Enrolment,
    "Update": Update,
    "Evaluation": Evaluation,
    "Refusal": Refusal,
}
"""Payloads that may leave."""


@dataclass(frozen=True)
class Gate:
    """What one site lets out.

    Attributes:
        site: The name that every payload must carry.
        journal: The file that each message is written down in before it leaves.
        statistics: Whether BatchNorm statistics may leave (``bn_policy: pooled``).
        confusion: Whether confusion counts may leave (simulation only).
        validation: Whether label-free scores may leave.
        translator: Whether a translator may leave.
    """

    site: str
    journal: Path
    statistics: bool = False
    confusion: bool = False
    validation: bool = False
    translator: bool = False


def seal(records: RecordDict, gate: Gate) -> RecordDict:
    """Checks what is about to leave and writes it down first.

    Raises:
        PolicyError: If anything is not declared; nothing has left then.
    """
    payload = _payload(records)
    if payload.site != gate.site:
        raise _undeclared("a payload under another name")
    if isinstance(payload, Evaluation) and (payload.held_out or payload.transductive) and not gate.confusion:
        raise _undeclared("confusion counts")
    if isinstance(payload, Evaluation) and payload.HasField("validation") and not gate.validation:
        raise _undeclared("a label-free score")
    if isinstance(payload, Update) and not gate.translator and any(map(_is_translators, payload.tensors)):
        raise _undeclared("a translator")
    arrays = records.array_records.get("arrays", ArrayRecord())
    sizes = declared_arrays(payload, gate)
    if extra := sorted(arrays.keys() - sizes.keys()):
        raise _undeclared(f"array {extra[0]!r}")
    for name, array in arrays.items():
        if array.dtype != "float32" or tuple(array.shape) != (sizes[name],):
            raise _undeclared(f"array {name!r} as {array.dtype} {tuple(array.shape)}")
    _write_down(records, payload, gate.journal)
    return records


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


def _payload(records: RecordDict) -> Outgoing:
    """The payload, which must be all that there is beside arrays."""
    kind, wire = kind_of(records), records.config_records.get("wire")
    if kind not in KINDS or wire is None:
        raise _undeclared(f"a payload {kind!r}")
    if extra := sorted(records.keys() - {"wire", "arrays"}):
        raise _undeclared(f"record {extra[0]!r}")
    if "arrays" in records and "arrays" not in records.array_records:
        raise _undeclared("a record 'arrays' that holds something else")
    content = wire.get("payload")
    if wire.keys() != {"kind", "payload"} or not isinstance(content, bytes):
        raise _undeclared("a wire record with more than a payload")
    payload = KINDS[kind]()
    try:
        payload.ParseFromString(content)
    except DecodeError:
        raise _undeclared("a payload that cannot be read") from None
    payload.DiscardUnknownFields()
    if payload.SerializeToString(deterministic=True) != content:
        raise _undeclared(f"unknown fields in {kind}")
    return payload


def _undeclared(what: str) -> PolicyError:
    return PolicyError(f"{what} is not declared and may not leave", where="egress", remedy="this is a fault: report it")


def _write_down(records: RecordDict, payload: Outgoing, journal: Path) -> None:
    content = records.config_records["wire"]["payload"]
    arrays = records.array_records.get("arrays", ArrayRecord())
    line = {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "kind": kind_of(records),
        "experiment": getattr(payload, "experiment", ""),
        "round": getattr(payload, "round", 0),
        "bytes": size_of(records),
        "payload_sha256": _digest(content if isinstance(content, bytes) else b""),
        "arrays": {
            name: {"dtype": a.dtype, "shape": list(a.shape), "sha256": _digest(a.data)} for name, a in arrays.items()
        },
    }
    journal.parent.mkdir(parents=True, exist_ok=True)
    with journal.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")
        file.flush()
        os.fsync(file.fileno())


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
