"""Nothing leaves a site but what is declared, and what leaves is written down."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from google.protobuf.message import Message as Payload

from client.app import app
from client.egress import FIELDS, KINDS, Gate, declared_arrays, seal
from client.journal import Journal
from protos.codec import decode, encode, kind_of, refusal
from protos.release_pb2 import TensorSpec
from protos.wire_pb2 import (
    REASON_DATA,
    Enrolment,
    EnrolRequest,
    Evaluation,
    ReleaseFiles,
    RoundRequest,
    Update,
)
from socket_core.batchnorm import bn_layers
from socket_core.data.catalogue import load_task, split_task
from socket_core.errors import PolicyError
from socket_core.exchange import batchnorm_specs, length, travelling_specs
from tests.server.builders import Bench, RecordingGrid, World

PAYLOADS: dict[str, type[Any]] = dict(KINDS)


def numbers_in(payload: Payload) -> list[int]:
    """All numeric values of a payload outside its tensor specs and confusion counts."""
    skipped = ("tensors", "batchnorm", "held_out", "transductive")
    return [v for f, v in payload.ListFields() if f.name not in skipped and isinstance(v, int) and f.name != "site"]


class Captured:
    """All that sites sent in a whole federation."""

    def __init__(self, world: World, folder: Path, policy: str, method: str) -> None:
        self.policy = policy
        self.bench = Bench(
            world, folder, federation__bn_policy=policy, method__name=method, data__scenes__ti=123, federation__steps=1
        )
        grid = RecordingGrid(app, self.bench.contexts())
        self.state = self.bench.run(grid)
        self.sent = [reply.content for reply in grid.received]
        self.by_kind = {k: [r for r in self.sent if kind_of(r) == k] for k in map(kind_of, self.sent)}


@pytest.fixture(scope="module", params=["local", "source", "pooled"])
def captured(request: pytest.FixtureRequest, world: World, tmp_path_factory: pytest.TempPathFactory) -> Captured:
    """A federation of SOCKET under each policy."""
    return Captured(world, tmp_path_factory.mktemp("captured"), request.param, "socket")


def test_the_records_of_all_messages_are_those_declared(captured: Captured) -> None:
    assert {k: len(v) for k, v in captured.by_kind.items()} == {"Enrolment": 6, "Update": 6, "Evaluation": 6}
    for records in captured.sent:
        pooled = {"bn_mean", "bn_var"} if captured.policy == "pooled" else set()
        arrays = {"delta"} | pooled if kind_of(records) == "Update" else set()
        assert set(records.keys()) == ({"wire", "arrays"} if arrays else {"wire"})
        assert set(records.config_records["wire"].keys()) == {"kind", "payload"}
        assert not records.metric_records
        if arrays:
            assert set(records.array_records["arrays"].keys()) == arrays


def test_the_fields_of_all_payloads_are_those_declared(captured: Captured) -> None:
    for records in captured.sent:
        payload = decode(records, PAYLOADS[kind_of(records)])
        assert {f.name for f in payload.DESCRIPTOR.fields} == FIELDS[kind_of(records)]
        # Nothing rides along in fields that this build does not know.
        again = type(payload)()
        for field, _ in payload.ListFields():
            assert field.name in FIELDS[kind_of(records)]
        again.CopyFrom(payload)
        again.DiscardUnknownFields()
        raw = records.config_records["wire"]["payload"]
        assert isinstance(raw, bytes)
        assert again.SerializeToString(deterministic=True) == raw


def test_arrays_are_exactly_the_travelling_parameters_and_nothing_image_sized(captured: Captured) -> None:
    network = captured.bench.release.network()
    specs = travelling_specs(network, captured.policy)  # type: ignore[arg-type]
    statistics = batchnorm_specs(network, captured.policy)  # type: ignore[arg-type]
    for records in captured.by_kind["Update"]:
        update = decode(records, Update)
        assert [(s.key, tuple(s.shape), s.dtype) for s in update.tensors] == [(k, sh, "float32") for k, sh in specs]
        assert [(s.key, tuple(s.shape)) for s in update.batchnorm] == list(statistics)
        sizes = {name: array.numpy().size for name, array in records.array_records["arrays"].items()}
        expected = {"delta": length(specs)}
        if captured.policy == "pooled":
            expected |= {"bn_mean": length(statistics), "bn_var": length(statistics)}
        assert sizes == expected


def test_batchnorm_leaves_by_policy_and_is_told_by_the_type_of_its_layer(captured: Captured) -> None:
    layers = bn_layers(captured.bench.release.network())
    assert len(layers) > 3
    for records in captured.by_kind["Update"]:
        update = decode(records, Update)
        affine = {spec.key for spec in update.tensors if spec.key.rpartition(".")[0] in layers}
        statistics = {spec.key for spec in update.batchnorm}
        if captured.policy == "local":
            assert affine == statistics == set()
        else:
            assert affine == {f"{layer}.{name}" for layer in layers for name in ("weight", "bias")}
            assert statistics == (set(layers) if captured.policy == "pooled" else set())


def test_the_classifier_and_integer_buffers_never_leave(captured: Captured) -> None:
    for records in captured.by_kind["Update"]:
        keys = {spec.key for spec in decode(records, Update).tensors}
        assert not [k for k in keys if k.startswith("classifier") or "num_batches" in k or "running" in k]


def test_the_number_of_tr_images_is_said_and_that_of_ti_pairs_is_not(world: World, captured: Captured) -> None:
    task = load_task(captured.bench.experiment.data, cache=world.cache)
    shares = split_task(task, captured.bench.experiment, 3)
    pairs = {len(share.data.ti) for share in shares} | {sum(len(share.data.ti) for share in shares)}
    assert pairs == {41, 123}
    for records in captured.by_kind["Update"]:
        update = decode(records, Update)
        assert update.examples == len(shares[int(update.site[-2:])].data.tr) == 12
    for records in captured.sent:
        assert not pairs & set(numbers_in(decode(records, PAYLOADS[kind_of(records)])))


def test_no_loss_is_sent(captured: Captured) -> None:
    for records in captured.sent:
        payload = decode(records, PAYLOADS[kind_of(records)])
        floats = {f.name for f in payload.DESCRIPTOR.fields if f.cpp_type in (f.CPPTYPE_FLOAT, f.CPPTYPE_DOUBLE)}
        # The one by method.validator only, which is off here; the other of int8 only.
        assert floats <= {"validation", "scales"}
        assert "scales" not in floats or not payload.scales
        assert "validation" not in floats or not payload.HasField("validation")
        assert not [f for f in payload.DESCRIPTOR.fields if "loss" in f.name]


@pytest.mark.parametrize("method", ["unadapted", "adabn", "shot", "oracle"])
def test_other_methods_send_the_same_and_no_more(world: World, tmp_path: Path, method: str) -> None:
    captured = Captured(world, tmp_path, "local", method)
    for records in captured.by_kind["Update"]:
        assert set(records.array_records["arrays"].keys()) == {"delta"}
        assert set(records.keys()) == {"wire", "arrays"}
        delta = records.array_records["arrays"]["delta"].numpy()
        assert np.any(delta) == (method in ("shot", "oracle"))


def test_the_statistics_of_a_pooled_job_are_those_sent(world: World, tmp_path: Path) -> None:
    captured = Captured(world, tmp_path, "pooled", "adabn")
    assert captured.state.batchnorm is not None
    means = [r.array_records["arrays"]["bn_mean"].numpy() for r in captured.by_kind["Update"]]
    np.testing.assert_allclose(captured.state.batchnorm.mean, np.mean(means, axis=0), rtol=1e-4, atol=1e-5)


# --- the gate itself

DELTA = np.zeros(3, np.float32)
SPEC = TensorSpec(key="w", dtype="float32", shape=[3])


def _gate(folder: Path, **allowed: bool) -> Gate:
    return Gate("north", folder / "site" / "egress.sqlite", **allowed)


def _update(**changes: Any) -> Update:
    return Update(**{"site": "north", "tensors": [SPEC], **changes})


def test_what_is_declared_passes_and_is_written_down(tmp_path: Path) -> None:
    gate = _gate(tmp_path)
    records = encode(_update(experiment="job", round=3), {"delta": DELTA})
    assert seal(records, gate) is records
    [line] = Journal(gate.journal, create=False).read()
    assert (line["experiment"], line["round"], line["pairs"]) == ("job", 3, "none")
    seal(refusal("north", REASON_DATA), gate)
    assert [line["kind"] for line in Journal(gate.journal).read()] == ["Update", "Refusal"]


def test_a_field_that_is_new_on_the_wire_stays_at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(FIELDS, "Update", FIELDS["Update"] - {"examples"})
    seal(encode(_update(), {"delta": DELTA}), _gate(tmp_path))
    with pytest.raises(PolicyError, match="field 'examples' of Update"):
        seal(encode(_update(examples=12), {"delta": DELTA}), _gate(tmp_path))


@pytest.mark.parametrize("kind", KINDS)
def test_the_wire_has_no_field_that_the_list_forgets(kind: str) -> None:
    assert {field.name for field in KINDS[kind].DESCRIPTOR.fields} == FIELDS[kind]
    assert not [name for name in FIELDS[kind] if any(word in name for word in ("loss", "clip", "pair", "batch_size"))]


def _with(records: RecordDict, **more: Any) -> RecordDict:
    for name, record in more.items():
        records[name] = record
    return records


def _riding(tail: bytes) -> RecordDict:
    records = encode(_update(), {"delta": DELTA})
    honest = records.array_records["arrays"]["delta"]
    hidden = Array("float32", (3,), honest.stype, honest.data + tail)
    records["arrays"] = ArrayRecord({"delta": hidden})
    return records


def _wire(**more: Any) -> RecordDict:
    records = encode(_update(), {"delta": DELTA})
    records["wire"] = ConfigRecord({**records.config_records["wire"], **more})
    return records


STATISTICS = {"delta": DELTA, "bn_mean": DELTA, "bn_var": DELTA}
UNKNOWN_FIELD = b"\xfa\x07\x03abc"  # field 127, three bytes

REFUSED: dict[str, RecordDict] = {
    "undeclared array": encode(_update(), {"delta": DELTA, "images": DELTA}),
    "statistics under local": encode(_update(batchnorm=[SPEC]), STATISTICS),
    "array in an enrolment": encode(Enrolment(site="north"), {"delta": DELTA}),
    "array in an evaluation": encode(Evaluation(site="north"), {"delta": DELTA}),
    "array in a refusal": _with(refusal("north", REASON_DATA), arrays=ArrayRecord([DELTA])),
    "extra arrays": _with(encode(_update(), {"delta": DELTA}), more=ArrayRecord([DELTA])),
    "extra metrics": _with(encode(_update(), {"delta": DELTA}), losses=MetricRecord({"pl": 0.5})),
    "extra config": _with(encode(_update(), {"delta": DELTA}), config=ConfigRecord({"path": "/home"})),
    "metrics in place of arrays": _with(encode(Enrolment(site="north")), arrays=MetricRecord({"loss": 0.5})),
    "config in place of arrays": _with(encode(Enrolment(site="north")), arrays=ConfigRecord({"path": "/home"})),
    "extra wire key": _wire(path="/home/anna"),
    "longer than its tensors": encode(_update(), {"delta": np.zeros(4, np.float32)}),
    "another shape": encode(_update(), {"delta": DELTA[None]}),
    "another type": encode(_update(), {"delta": np.zeros(3, np.uint8)}),
    "bytes behind the values": _riding(b"/home/anna"),
    "no values": _with(encode(_update()), arrays=ArrayRecord({"delta": Array("float32", (3,), "numpy.ndarray", b"x")})),
    "no arrays at all": encode(_update()),
    "a tensor twice": encode(_update(tensors=[SPEC, SPEC]), {"delta": np.zeros(6, np.float32)}),
    "a tensor of another type": encode(
        _update(tensors=[TensorSpec(key="w", dtype="uint8", shape=[3])]), {"delta": DELTA}
    ),
    "another name": encode(_update(site="south"), {"delta": DELTA}),
    "translator of a site that keeps it": encode(
        Update(site="north", tensors=[TensorSpec(key="translator.out.bias", dtype="float32", shape=[3])]),
        {"delta": DELTA},
    ),
    "score of a site that gives none": encode(Evaluation(site="north", validation=0.5)),
    "counts of a deployed site": encode(Evaluation(site="north", held_out=[1, 0, 0, 1])),
    "an unknown field": _wire(payload=_update(schema_version=1).SerializeToString() + UNKNOWN_FIELD),
    "no protobuf": _wire(payload=b"\xff\xff"),
    "a request": encode(RoundRequest()),
    "an enrolment request": encode(EnrolRequest()),
    "a release": encode(ReleaseFiles()),
    "no payload": RecordDict({"arrays": ArrayRecord([DELTA])}),
    "nothing": RecordDict(),
}


@pytest.mark.parametrize("records", REFUSED.values(), ids=REFUSED.keys())
def test_whatever_else_is_refused_before_it_is_written_down(tmp_path: Path, records: RecordDict) -> None:
    gate = _gate(tmp_path)
    with pytest.raises(PolicyError) as caught:
        seal(records, gate)
    assert caught.value.where == "egress"
    assert not gate.journal.exists()


def test_statistics_and_counts_leave_only_through_a_gate_that_is_open_for_them(tmp_path: Path) -> None:
    gate = _gate(tmp_path, statistics=True, held_out=True)
    seal(encode(_update(batchnorm=[SPEC]), STATISTICS), gate)
    seal(encode(Evaluation(site="north", held_out=[1, 0, 0, 1])), gate)
    assert declared_arrays(_update(batchnorm=[SPEC]), gate) == {"delta": 3, "bn_mean": 3, "bn_var": 3}
    assert declared_arrays(Evaluation(), gate) == {}
    with pytest.raises(PolicyError, match="confusion counts"):
        seal(encode(Evaluation(site="north", transductive=[1, 0, 0, 1])), gate)


def test_when_the_journal_cannot_be_written_nothing_leaves(tmp_path: Path) -> None:
    (tmp_path / "site").write_text("")
    with pytest.raises(OSError, match="site"):
        seal(encode(_update(), {"delta": DELTA}), _gate(tmp_path))


def test_refusals_are_in_the_journal_too(world: World, tmp_path: Path) -> None:
    bench = Bench(world, tmp_path)
    message = Message(encode(RoundRequest(experiment_json="{")), 100, "train.round")
    app(message, bench.context(0, 100))
    [line] = Journal(bench.home / "sites" / "site-00" / "egress.sqlite", create=False).read()
    assert (line["kind"], line["arrays"], line["tensors"]) == ("Refusal", {}, [])
