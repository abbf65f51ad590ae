"""Generated code is what the .proto files give."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts"))

import gen_protos


def test_committed_code_is_current() -> None:
    assert gen_protos.main(["--check"]) == 0


def test_stale_missing_and_orphaned_code_is_named() -> None:
    lines = gen_protos.differences({"a_pb2.py": b"1", "old_pb2.py": b""}, {"a_pb2.py": b"2", "new_pb2.py": b""})
    assert lines == [
        "protos/a_pb2.py: out of date",
        "protos/new_pb2.py: missing",
        "protos/old_pb2.py: no .proto file generates it",
    ]
