"""The journal of what left: each tensor and scalar with its hash, no value, and no line can change unnoticed."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import RecordDict
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from typer.testing import CliRunner

from client.app import app
from client.cli import app as cli
from client.egress import Gate, seal
from client.journal import Journal, entry_of
from protos.codec import decode, encode, kind_of, refusal
from protos.release_pb2 import TensorSpec
from protos.wire_pb2 import REASON_DATA, Enrolment, Evaluation, Update
from socket_core.errors import PrivacyError
from tests.client.builders import Deployment
from tests.server.builders import Bench, RecordingGrid, World

VALUES = np.arange(5, dtype=np.float32)


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def gate_in(folder: Path, **allowed: bool) -> Gate:
    return Gate("north", folder / "site" / "egress.sqlite", **allowed)


def update() -> RecordDict:
    specs = [
        TensorSpec(key="w", dtype="float32", shape=[2, 2]),
        TensorSpec(key="t", dtype="float32", shape=[]),
        TensorSpec(key="empty", dtype="float32", shape=[0, 3]),
    ]
    payload = Update(experiment="job", site="north", round=3, tensors=specs, examples=300)
    return encode(payload, {"delta": VALUES})


def test_each_tensor_is_hashed_by_its_own_values(tmp_path: Path) -> None:
    seal(update(), gate_in(tmp_path), pairs="dp")
    [entry] = Journal(gate_in(tmp_path).journal, create=False).read()
    expected = [
        ("w", [2, 2], 16, sha(VALUES[:4].tobytes())),
        ("t", [], 4, sha(np.float32(4).tobytes())),
        ("empty", [0, 3], 0, sha(b"")),
    ]
    assert [(t["key"], t["shape"], t["bytes"], t["sha256"]) for t in entry["tensors"]] == expected
    assert {(t["array"], t["dtype"]) for t in entry["tensors"]} == {("delta", "float32")}
    assert (entry["kind"], entry["experiment"], entry["round"], entry["pairs"]) == ("Update", "job", 3, "dp")


def test_each_scalar_is_named_with_its_type_and_no_value(tmp_path: Path) -> None:
    seal(update(), gate_in(tmp_path))
    counts = Evaluation(experiment="job", site="north", round=3, held_out=[41, 0, 0, 77], validation=0.125)
    seal(encode(counts), gate_in(tmp_path, held_out=True, transductive=True, validation=True))
    entries = Journal(gate_in(tmp_path).journal).read()
    one, other = ({s["key"]: (s["dtype"], s["shape"]) for s in entry["scalars"]} for entry in entries)
    # delta_sha256 is not set here: what is not set does not leave.
    assert one == {
        "schema_version": ("uint32", []),
        "experiment": ("string", []),
        "site": ("string", []),
        "round": ("uint32", []),
        "examples": ("uint64", []),
    }
    assert other["held_out"] == ("uint64", [4])
    assert other["validation"] == ("double", [])
    examples = next(s for s in entries[0]["scalars"] if s["key"] == "examples")
    encoded = Update(examples=300).SerializeToString()
    assert (examples["bytes"], examples["sha256"]) == (len(encoded), sha(encoded))
    for entry in entries:
        assert "value" not in json.dumps(entry)
        assert not {300, 41, 77, 0.125} & set(numbers_of(entry))


def numbers_of(value: Any) -> list[float]:
    """All numbers anywhere in plain values."""
    if isinstance(value, dict):
        return [n for one in value.values() for n in numbers_of(one)]
    if isinstance(value, list):
        return [n for one in value for n in numbers_of(one)]
    return [value] if isinstance(value, int | float) else []


@settings(max_examples=40)
@given(
    shapes=st.lists(hnp.array_shapes(min_dims=0, max_dims=3, max_side=4), min_size=1, max_size=6),
    flip=st.integers(0, 10**6),
)
def test_one_changed_value_changes_the_hash_of_its_tensor_and_of_no_other(
    shapes: list[tuple[int, ...]], flip: int
) -> None:
    specs = [TensorSpec(key=f"k{i}", dtype="float32", shape=shape) for i, shape in enumerate(shapes)]
    sizes = [int(np.prod(shape)) for shape in shapes]
    values = np.arange(sum(sizes), dtype=np.float32)
    changed = values.copy()
    changed[flip % len(values)] += 1
    payload = Update(tensors=specs)
    one, other = (entry_of(payload, b"", {"delta": (v.tobytes(), v)}, "none")["tensors"] for v in (values, changed))
    differing = [i for i, (a, b) in enumerate(zip(one, other, strict=True)) if a != b]
    assert differing == [int(np.searchsorted(np.cumsum(sizes), flip % len(values), side="right"))]
    assert sum(t["bytes"] for t in one) == values.nbytes


def test_all_that_a_federation_sent_is_in_the_journals(world: World, tmp_path: Path) -> None:
    bench = Bench(world, tmp_path, federation__bn_policy="pooled", federation__steps=1, federation__rounds=1)
    grid = RecordingGrid(app, bench.contexts())
    bench.run(grid)
    sent = [reply.content for reply in grid.received]
    journals = [Journal(bench.home / "sites" / f"site-{i:02d}" / "egress.sqlite", create=False) for i in range(3)]
    entries = [entry for journal in journals for entry in journal.read()]
    assert sorted(entry["kind"] for entry in entries) == sorted(map(kind_of, sent))
    assert {entry["pairs"] for entry in entries if entry["kind"] == "Update"} == {"open"}
    updates = {entry["payload_sha256"]: entry for entry in entries if entry["kind"] == "Update"}
    for records in (one for one in sent if kind_of(one) == "Update"):
        payload = records.config_records["wire"]["payload"]
        assert isinstance(payload, bytes)
        entry, told = updates[sha(payload)], decode(records, Update)
        arrays = records.array_records["arrays"]
        assert entry["arrays"].keys() == arrays.keys() == {"delta", "bn_mean", "bn_var"}
        assert all(entry["arrays"][name]["sha256"] == sha(array.data) for name, array in arrays.items())
        keys = [spec.key for spec in told.tensors] + 2 * [spec.key for spec in told.batchnorm]
        assert [t["key"] for t in entry["tensors"]] == keys
        for name, array in arrays.items():
            parts = [t for t in entry["tensors"] if t["array"] == name]
            assert sum(t["bytes"] for t in parts) == array.numpy().nbytes
        assert sha(arrays["delta"].numpy()[: parts_size(told)].tobytes()) == entry["tensors"][0]["sha256"]


def parts_size(told: Update) -> int:
    """Values of the first tensor."""
    return int(np.prod(told.tensors[0].shape))


# --- tampering


def _sql(command: str) -> Callable[[Path], None]:
    def run(path: Path) -> None:
        with sqlite3.connect(path) as database:
            database.executescript(command)
        database.close()

    return run


IN_THE_MIDDLE: dict[str, Callable[[Path], object]] = {
    "first entry cut": _sql("DELETE FROM entries WHERE seq = 1"),
    "an entry edited": _sql("UPDATE entries SET body = replace(body, 'Update', 'Refusal') WHERE seq = 1"),
    "a hash edited": _sql("UPDATE entries SET body = replace(body, 'sha256\": \"', 'sha256\": \"0') WHERE seq = 1"),
    "two reordered": _sql(
        "UPDATE entries SET seq = seq + 10 WHERE seq < 3; UPDATE entries SET seq = 13 - seq WHERE seq > 10"
    ),
}
AT_THE_END: dict[str, Callable[[Path], object]] = {
    "last entry cut": _sql("DELETE FROM entries WHERE seq = 3"),
    "last entry edited": _sql("UPDATE entries SET body = replace(body, 'Refusal', 'Update') WHERE seq = 3"),
    "all entries cut": _sql("DELETE FROM entries"),
    "one added without the key": _sql("INSERT INTO entries VALUES (4, '{}', 'x')"),
    "database deleted": Path.unlink,
    "key deleted": lambda path: path.with_suffix(".key").unlink(),
    "head deleted": lambda path: path.with_suffix(".head").unlink(),
    "head set back": lambda path: path.with_suffix(".head").write_text('{"count": 2, "code": ""}'),
}


@pytest.fixture
def gate(tmp_path: Path) -> Gate:
    """A site that has sent three messages."""
    gate = gate_in(tmp_path)
    for records in (update(), encode(Enrolment(site="north")), refusal("north", REASON_DATA)):
        seal(records, gate)
    return gate


@pytest.mark.parametrize("damage", (IN_THE_MIDDLE | AT_THE_END).values(), ids=(IN_THE_MIDDLE | AT_THE_END).keys())
def test_a_journal_that_was_tampered_with_cannot_be_read(gate: Gate, damage: Callable[[Path], object]) -> None:
    assert len(Journal(gate.journal, create=False).read()) == 3
    damage(gate.journal)
    with pytest.raises(PrivacyError, match=r"entry|expected|is gone|here") as caught:
        Journal(gate.journal, create=False).read()
    assert caught.value.where == str(gate.journal)


@pytest.mark.parametrize("damage", AT_THE_END.values(), ids=AT_THE_END.keys())
def test_nothing_leaves_once_the_end_of_the_journal_was_tampered_with(
    gate: Gate, damage: Callable[[Path], object]
) -> None:
    damage(gate.journal)
    with pytest.raises(PrivacyError):
        seal(update(), gate)


def test_marks_tell_each_entry(gate: Gate) -> None:
    journal = Journal(gate.journal, create=False)
    assert journal.mark() == (3, journal.marks()[2])
    assert len(set(journal.marks())) == 3
    seal(update(), gate)
    assert Journal(gate.journal).marks()[:3] == journal.marks()[:3]
    assert Journal(gate.journal.with_name("other.sqlite")).mark() == (0, "")


def test_an_entry_without_its_head_counts_after_a_crash(gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    def crash(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("socket_core.privacy.chain.Chain._write_head", crash)
        with pytest.raises(KeyboardInterrupt):
            seal(update(), gate)
    assert Journal(gate.journal).mark()[0] == 4
    seal(update(), gate)
    assert len(Journal(gate.journal).read()) == 5


# --- for people


def test_the_command_lists_what_left(world: World, tmp_path: Path) -> None:
    site = Deployment(tmp_path, world.home / "keys" / "owner.pub.pem")
    missing = CliRunner().invoke(cli, ["egress", str(site.path)])
    assert isinstance(missing.exception, PrivacyError)
    seal(update(), Gate("north", tmp_path / "home" / "egress.sqlite"), pairs="dp")
    text = CliRunner().invoke(cli, ["egress", str(site.path)]).stdout
    assert "Update     job" in text
    assert "1 messages" in text
    [entry] = json.loads(CliRunner().invoke(cli, ["egress", str(site.path), "--json"]).stdout)
    assert [t["key"] for t in entry["tensors"]] == ["w", "t", "empty"]
