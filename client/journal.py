"""The journal of what left a site: one entry a message, chained by keyed codes as the privacy ledger is.

``home/egress.sqlite``, with ``egress.key`` and ``egress.head`` beside it (:mod:`socket_core.privacy.chain`). An entry
is on the disk before its message leaves. It says of every tensor and every scalar: key, shape, type, bytes and sha256,
never a value. Of a short number the hash gives the number away to whoever tries all of them; the owner has it anyway.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import numpy as np
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from numpy.typing import NDArray

from protos.release_pb2 import TensorSpec
from socket_core.privacy.chain import Chain

Pairs = Literal["none", "dp", "open"]
"""What an update owes to TI pairs: nothing, something under DP, or something without DP."""

SPECS = {"delta": "tensors", "bn_mean": "batchnorm", "bn_var": "batchnorm"}
"""Arrays by name, and the field of an update that lists the tensors in them."""


class Journal:
    """The journal of one site.

    Args:
        path: Its database.
        create: Whether it may be started.

    Raises:
        PrivacyError: If it was there and is missing, altered or damaged.
    """

    def __init__(self, path: Path, *, create: bool = True) -> None:
        # Journals grow with every message for years: to add one, the newest is checked, to read them, all are.
        self._chain = Chain(path, create=create, whole=False, called="journal of what left")

    def write(self, entry: dict[str, Any]) -> None:
        """Adds an entry; on disk when this returns."""
        with self._chain.locked():
            self._chain.append(entry)

    def read(self) -> list[dict[str, Any]]:
        """All entries in order, after checking the whole chain.

        Raises:
            PrivacyError: If one was altered or taken away.
        """
        return self._chain.read()

    def marks(self) -> list[str]:
        """What :meth:`mark` gave, or would have given, after each entry."""
        return [_mark(code) for code in self._chain.codes()]

    def mark(self) -> tuple[int, str]:
        """How many entries there are, and what the newest can be told by; "" for none."""
        count, code = self._chain.newest()
        return count, _mark(code)


def _mark(code: str) -> str:
    return code[:32]


def entry_of(
    payload: Message, content: bytes, arrays: Mapping[str, tuple[bytes, NDArray[np.generic]]], pairs: Pairs
) -> dict[str, Any]:
    """What the journal says of one message.

    Args:
        payload: As decoded and allowed.
        content: Its bytes, as they leave.
        arrays: Of each array the bytes that leave, and the values in them, flat.
        pairs: What the message owes to TI pairs.
    """
    return {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "kind": payload.DESCRIPTOR.name,
        "experiment": getattr(payload, "experiment", ""),
        "round": getattr(payload, "round", 0),
        "pairs": pairs,
        "bytes": len(content) + sum(len(data) for data, _ in arrays.values()),
        "payload_sha256": digest(content),
        "arrays": {
            name: {"dtype": str(values.dtype), "shape": list(values.shape), "sha256": digest(data)}
            for name, (data, values) in arrays.items()
        },
        "tensors": [
            {"array": name} | one
            for name, (_, values) in arrays.items()
            for one in _slices(values, getattr(payload, SPECS[name]))
        ],
        "scalars": list(_scalars(payload)),
    }


def _slices(values: NDArray[np.generic], specs: Iterable[TensorSpec]) -> Iterator[dict[str, Any]]:
    """Each tensor inside a flat array."""
    start = 0
    for spec in specs:
        part = values[start : start + math.prod(spec.shape)]
        start += part.size
        yield _line(spec.key, list(spec.shape), spec.dtype, part.tobytes())


def _scalars(payload: Message) -> Iterator[dict[str, Any]]:
    """Each field that is set, but for the lists of tensors; a list is one entry with its length as shape.

    Hashed is the field's own protobuf encoding.
    """
    for field, value in payload.ListFields():
        if field.name in SPECS.values():
            continue
        alone, several = type(payload)(), field.is_repeated
        if several:
            getattr(alone, field.name).extend(value)
        else:
            setattr(alone, field.name, value)
        encoded = alone.SerializeToString(deterministic=True)
        yield _line(field.name, [len(value)] if several else [], _TYPES[field.type], encoded)


_TYPES = {
    getattr(FieldDescriptor, name): name.removeprefix("TYPE_").lower()
    for name in vars(FieldDescriptor)
    if name.startswith("TYPE_")
}


def _line(key: str, shape: list[int], dtype: str, data: bytes) -> dict[str, Any]:
    return {"key": key, "shape": shape, "dtype": dtype, "bytes": len(data), "sha256": digest(data)}


def digest(data: bytes) -> str:
    """sha256 in hex."""
    return hashlib.sha256(data).hexdigest()
