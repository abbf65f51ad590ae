"""The codec: what goes in comes out, and whatever else comes is a WireError."""

from __future__ import annotations

import contextlib
from io import BytesIO
from typing import Any

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, MetricRecord, RecordDict
from hypothesis import given
from hypothesis import strategies as st

from protos.codec import (
    SCHEMA_VERSION,
    Payload,
    WireError,
    arrays_of,
    decode,
    encode,
    kind_of,
    reason_name,
    refusal,
    sha256,
    size_of,
    specs_to_proto,
)
from protos.wire_pb2 import (
    REASON_DATA,
    REASON_MALFORMED,
    REASON_SCHEMA,
    Enrolment,
    EnrolRequest,
    Evaluation,
    Refusal,
    ReleaseFiles,
    RoundRequest,
    Update,
)

SPECS = (("a", (2, 3)), ("b", ()))
PAYLOADS: list[Payload] = [
    EnrolRequest(experiment="job", release_digest="d" * 64, further_release_digests=["e" * 64]),
    Enrolment(site="north", modality="depth", has_release=True, further_release_digests=["e" * 64]),
    ReleaseFiles(manifest=b"\0\1", signature=b"\2"),
    RoundRequest(
        experiment="job",
        round=1,
        rounds=2,
        release_digest="d",
        experiment_json="{}",
        further_release_digests=["e", "f"],
    ),
    Update(experiment="job", site="n", round=1, tensors=specs_to_proto(SPECS), examples=2**64 - 1, delta_sha256=b"x"),
    Evaluation(experiment="job", site="n", round=1, held_out=[1, 0, 2, 3], transductive=[]),
    Refusal(site="north", reason=REASON_DATA),
]
KINDS: list[type[Any]] = [type(p) for p in PAYLOADS]


def name_of(payload: Any) -> str:
    return str(payload.DESCRIPTOR.name)


@pytest.mark.parametrize("payload", PAYLOADS, ids=name_of)
def test_each_payload_comes_out_as_it_went_in(payload: Any) -> None:
    records = encode(payload, {"x": np.arange(3, dtype=np.float32)})
    assert kind_of(records) == payload.DESCRIPTOR.name
    decoded = decode(records, type(payload))
    assert decoded == payload
    assert decoded.schema_version == SCHEMA_VERSION


@pytest.mark.parametrize("payload", PAYLOADS, ids=name_of)
@pytest.mark.parametrize("kind", KINDS, ids=name_of)
def test_a_payload_is_not_read_as_another_kind(payload: Any, kind: type[Any]) -> None:
    if isinstance(payload, kind):
        return
    with pytest.raises(WireError) as caught:
        decode(encode(payload), kind)
    assert caught.value.reason == REASON_MALFORMED


@pytest.mark.parametrize("kind", KINDS, ids=name_of)
@pytest.mark.parametrize("version", [0, SCHEMA_VERSION - 1, SCHEMA_VERSION + 1, 2**32 - 1])
def test_another_schema_version_is_its_own_reason(kind: type[Any], version: int) -> None:
    wire = ConfigRecord({"kind": name_of(kind), "payload": kind(schema_version=version).SerializeToString()})
    with pytest.raises(WireError, match=f"schema version {version}") as caught:
        decode(RecordDict({"wire": wire}), kind)
    assert caught.value.reason == REASON_SCHEMA


def test_encoding_is_deterministic() -> None:
    assert encode(PAYLOADS[4]) == encode(PAYLOADS[4])


@given(st.binary(max_size=500), st.sampled_from(KINDS), st.sampled_from([*map(name_of, KINDS), "", "wire"]))
def test_random_payloads_are_wire_errors_or_valid(payload: bytes, kind: type[Any], name: str) -> None:
    records = RecordDict({"wire": ConfigRecord({"kind": name, "payload": payload})})
    try:
        decoded = decode(records, kind)
    except WireError:
        return
    assert decoded.schema_version == SCHEMA_VERSION
    assert name == name_of(kind)


@given(
    st.sampled_from(KINDS),
    st.dictionaries(
        st.sampled_from(["kind", "payload", "other"]),
        st.one_of(st.text(max_size=20), st.binary(max_size=20), st.integers(0, 9), st.floats(0, 1), st.booleans()),
    ),
)
def test_random_wire_records_are_wire_errors(kind: type[Any], wire: dict[str, Any]) -> None:
    for records in (RecordDict(), RecordDict({"wire": ConfigRecord(wire)})):
        with pytest.raises(WireError):
            decode(records, kind)


@given(st.data(), st.sampled_from(PAYLOADS))
def test_a_damaged_payload_is_a_wire_error_or_valid(data: st.DataObject, payload: Any) -> None:
    raw = bytearray(encode(payload).config_records["wire"]["payload"])  # type: ignore[arg-type]
    raw[data.draw(st.integers(0, len(raw) - 1))] ^= data.draw(st.integers(1, 255))
    records = RecordDict({"wire": ConfigRecord({"kind": name_of(payload), "payload": bytes(raw)})})
    with contextlib.suppress(WireError):
        assert decode(records, type(payload)).schema_version == SCHEMA_VERSION


def test_records_of_another_type_under_the_names_are_wire_errors() -> None:
    with pytest.raises(WireError):
        decode(RecordDict({"wire": MetricRecord({"kind": 1.0})}), Enrolment)
    records = RecordDict({"arrays": MetricRecord({"x": 1.0})})
    with pytest.raises(WireError):
        arrays_of(records, {"x": ("float32", 1)})


# --- arrays

GOOD = np.arange(4, dtype=np.float32)


def raw_array(dtype: str, shape: tuple[int, ...], data: bytes) -> RecordDict:
    return RecordDict({"arrays": ArrayRecord({"x": Array(dtype, shape, "numpy.ndarray", data)})})


def npy(array: np.ndarray[Any, Any]) -> bytes:
    buffer = BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()


def test_arrays_come_out_to_the_bit() -> None:
    out = arrays_of(encode(Update(), {"x": GOOD, "y": GOOD[::2]}), {"x": ("float32", 4), "y": ("float32", 2)})
    assert (out["x"].tobytes(), out["y"].tobytes()) == (GOOD.tobytes(), GOOD[::2].tobytes())


@pytest.mark.parametrize(
    "arrays",
    [
        {},
        {"y": GOOD},
        {"x": GOOD, "y": GOOD},
        {"x": GOOD.astype(np.float64)},
        {"x": GOOD[:3]},
        {"x": GOOD.reshape(2, 2)},
        {"x": GOOD.astype(np.int32)},
    ],
)
def test_arrays_other_than_expected_are_wire_errors(arrays: dict[str, Any]) -> None:
    with pytest.raises(WireError) as caught:
        arrays_of(encode(Update(), arrays), {"x": ("float32", 4)})
    assert caught.value.reason == REASON_MALFORMED


@given(st.binary(max_size=100))
def test_random_array_bytes_are_wire_errors(data: bytes) -> None:
    for prefix in (b"", b"\x93NUMPY\x01\x00", b"PK\x03\x04"):
        with pytest.raises(WireError):
            arrays_of(raw_array("float32", (4,), prefix + data), {"x": ("float32", 4)})


@pytest.mark.parametrize("inside", [GOOD.astype(np.float64), GOOD[:3], GOOD.reshape(2, 2), GOOD.astype(">f4")])
def test_an_array_that_lies_about_itself_is_a_wire_error(inside: np.ndarray[Any, Any]) -> None:
    with pytest.raises(WireError):
        arrays_of(raw_array("float32", (4,), npy(inside)), {"x": ("float32", 4)})


# --- the rest


def test_size_is_that_of_payload_and_arrays() -> None:
    assert size_of(RecordDict()) == 0
    payload = Update(site="north")
    bare = size_of(encode(payload))
    assert bare == len(payload.SerializeToString())
    assert size_of(encode(payload, {"x": GOOD, "y": GOOD})) == bare + 2 * len(npy(GOOD))


def test_a_checksum_is_of_the_values_in_c_order() -> None:
    grid = np.arange(6, dtype=np.float32).reshape(2, 3)
    assert sha256(grid) == sha256(np.asfortranarray(grid)) == sha256(grid.reshape(-1))
    assert sha256(grid) != sha256(grid.T)


def test_specs_say_key_type_and_shape() -> None:
    assert [(s.key, s.dtype, tuple(s.shape)) for s in specs_to_proto(SPECS)] == [
        ("a", "float32", (2, 3)),
        ("b", "float32", ()),
    ]


def test_a_refusal_has_a_site_and_a_reason_and_nothing_else() -> None:
    decoded = decode(refusal("north", REASON_DATA), Refusal)
    assert {f.name for f, _ in decoded.ListFields()} == {"schema_version", "site", "reason"}


def test_reasons_have_names_and_unknown_ones_numbers() -> None:
    assert reason_name(REASON_DATA) == "data"
    assert reason_name(99) == "99"
