"""The one place through which anything leaves a site, and the journal of what left.

Only the keys that :func:`declared` lists for a message may leave; everything else is refused here, whatever
the rest of the code does. The journal holds key, type, length and sha256 of each array, never a value.
"""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime
from pathlib import Path

from flwr.app import RecordDict

from protos.codec import kind_of, size_of
from socket_core.errors import PolicyError

ARRAYS: dict[str, frozenset[str]] = {
    "Enrolment": frozenset(),
    "Update": frozenset({"delta"}),
    "Evaluation": frozenset(),
    "Refusal": frozenset(),
}
"""Arrays that each payload may carry; with ``bn_policy: pooled`` an update may also carry statistics."""

POOLED = frozenset({"bn_mean", "bn_var"})


def declared(kind: str, *, pooled: bool) -> frozenset[str]:
    """Names of the arrays that may leave in a message of ``kind``.

    Raises:
        PolicyError: If nothing of that kind may leave at all.
    """
    if kind not in ARRAYS:
        raise PolicyError(f"a payload {kind!r} may not leave a site", where="egress")
    return ARRAYS[kind] | (POOLED if pooled and kind == "Update" else frozenset())


def seal(records: RecordDict, journal: Path, *, pooled: bool = False) -> RecordDict:
    """Checks what is about to leave and writes it down first.

    Raises:
        PolicyError: If anything is not declared; nothing has left then.
    """
    kind = kind_of(records)
    allowed = declared(kind, pooled=pooled)
    arrays = records.array_records.get("arrays")
    names = set(arrays.keys()) if arrays is not None else set()
    if extra := sorted(set(records.keys()) - {"wire", "arrays"}) or sorted(names - allowed):
        raise PolicyError(f"{extra[0]!r} is not declared for {kind}", where="egress")
    if "arrays" in records and arrays is None:
        raise PolicyError("the record 'arrays' holds something else", where="egress")
    if set(records.config_records["wire"].keys()) != {"kind", "payload"}:
        raise PolicyError("the wire record carries more than a payload", where="egress")
    line = {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "kind": kind,
        "bytes": size_of(records),
        "arrays": {
            name: {"dtype": a.dtype, "shape": list(a.shape), "sha256": _digest(a.data)}
            for name, a in (arrays.items() if arrays is not None else ())
        },
    }
    journal.parent.mkdir(parents=True, exist_ok=True)
    with journal.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")
    return records


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
