"""Screening: each thing that can be wrong with a reply has a name, and the rest goes through unchanged."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, RecordDict
from hypothesis import given
from hypothesis import strategies as st

from protos.codec import encode, refusal, sha256, specs_to_proto
from protos.wire_pb2 import REASON_POLICY, Enrolment, Reason, Refusal, Update
from server.screening import Expectation, Rejected, Why, screen, screen_all
from tests.server.builders import error_reply, reply_with

TENSORS = (("a.weight", (2, 3)), ("b.bias", (4,)))
BATCHNORM = (("bn.0", (2,)), ("bn.1", (1,)))
EXPECTED = Expectation(
    experiment="job-1",
    round=3,
    tensors=TENSORS,
    batchnorm=(),
    parameter_norm=10.0,
    max_examples=1000,
    max_relative_update=2.0,
)
POOLED = replace(EXPECTED, batchnorm=BATCHNORM)
Arrays = dict[str, Any]


def good(*, pooled: bool = False) -> tuple[Update, Arrays]:
    """An update that fits."""
    delta = np.linspace(-1, 1, 10, dtype=np.float32)
    update = Update(
        experiment="job-1",
        site="north",
        round=3,
        tensors=specs_to_proto(TENSORS),
        batchnorm=specs_to_proto(BATCHNORM if pooled else ()),
        examples=40,
        delta_sha256=sha256(delta),
    )
    arrays: Arrays = {"delta": delta}
    if pooled:
        arrays |= {"bn_mean": np.zeros(3, np.float32), "bn_var": np.ones(3, np.float32)}
    return update, arrays


def why(records: RecordDict, expected: Expectation = EXPECTED) -> Why:
    """The reason for which records are refused."""
    with pytest.raises(Rejected) as caught:
        screen(reply_with(records), "north", expected)
    return caught.value.why


def packed(update: Update, arrays: Arrays) -> RecordDict:
    """Records with a checksum that fits, so that it is not the reason."""
    if isinstance(delta := arrays.get("delta"), np.ndarray):
        update.delta_sha256 = sha256(delta)
    return encode(update, arrays)


def with_raw(name: str, array: Array, *, pooled: bool = False) -> RecordDict:
    """A good update in which one array is replaced by a hand-made one."""
    update, arrays = good(pooled=pooled)
    records = encode(update, arrays)
    made = dict(records.array_records["arrays"].items()) | {name: array}
    records["arrays"] = ArrayRecord(made)
    return records


def npy(array: np.ndarray[Any, Any]) -> bytes:
    """An array in NumPy's format."""
    buffer = BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()


# --- what goes through


def test_a_good_update_goes_through_unchanged() -> None:
    update, arrays = good()
    screened = screen(reply_with(encode(update, arrays)), "north", EXPECTED)
    assert (screened.site, screened.examples, screened.batchnorm) == ("north", 40, None)
    assert screened.delta.tobytes() == arrays["delta"].tobytes()


def test_pooled_statistics_go_through_unchanged() -> None:
    update, arrays = good(pooled=True)
    screened = screen(reply_with(encode(update, arrays)), "north", POOLED)
    assert screened.batchnorm is not None
    assert screened.batchnorm.mean.tobytes() == arrays["bn_mean"].tobytes()
    assert screened.batchnorm.var.tobytes() == arrays["bn_var"].tobytes()


@pytest.mark.parametrize("examples", [1, 1000])
def test_claims_up_to_the_limit_go_through(examples: int) -> None:
    update, arrays = good()
    update.examples = examples
    assert screen(reply_with(packed(update, arrays)), "north", EXPECTED).examples == examples


def test_a_delta_as_large_as_the_limit_goes_through() -> None:
    update, arrays = good()
    arrays["delta"] = np.array([20.0] + [0.0] * 9, dtype=np.float32)
    screen(reply_with(packed(update, arrays)), "north", EXPECTED)


# --- no update at all


def test_no_reply_is_named() -> None:
    with pytest.raises(Rejected, match="no_reply") as caught:
        screen(None, "north", EXPECTED)
    assert caught.value.why is Why.NO_REPLY


def test_an_error_reply_keeps_its_number_and_not_its_text() -> None:
    with pytest.raises(Rejected, match="site_error: Flower error code 7") as caught:
        screen(error_reply("FileNotFoundError: /home/anna/depth/0001.png", code=7), "north", EXPECTED)
    assert caught.value.why is Why.SITE_ERROR
    assert "anna" not in str(caught.value)


def test_a_refusal_is_named_with_its_reason() -> None:
    with pytest.raises(Rejected, match="refused: policy") as caught:
        screen(reply_with(refusal("north", REASON_POLICY)), "north", EXPECTED)
    assert caught.value.why is Why.REFUSED


def test_a_refusal_for_a_reason_of_a_later_version_is_still_a_refusal() -> None:
    unknown = Refusal(site="north")
    unknown.MergeFromString(b"\x18\x63")  # field 3, value 99
    assert why(encode(unknown)) is Why.REFUSED


def test_another_schema_version_is_named() -> None:
    update, arrays = good()
    records = encode(update, arrays)
    update.schema_version = 2
    records["wire"] = ConfigRecord({"kind": "Update", "payload": update.SerializeToString()})
    assert why(records) is Why.SCHEMA


@pytest.mark.parametrize(
    "wire",
    [
        {"kind": "Update", "payload": b"\xff\xff\xff\xff garbage"},
        {"kind": "Update", "payload": "text"},
        {"kind": "Update"},
        {"payload": b""},
        {"kind": 3, "payload": b""},
        {"kind": "update", "payload": b""},
        {"kind": "ListOfSecrets", "payload": b""},
        {},
    ],
)
def test_a_payload_of_garbage_is_malformed(wire: dict[str, Any]) -> None:
    _, arrays = good()
    records = encode(Update(), arrays)
    records["wire"] = ConfigRecord(wire)
    assert why(records) is Why.MALFORMED


def test_records_without_a_payload_are_malformed() -> None:
    assert why(RecordDict()) is Why.MALFORMED


def test_a_payload_of_another_kind_is_malformed() -> None:
    assert why(encode(Enrolment(site="north"))) is Why.MALFORMED


# --- who and what for


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("site", "south", Why.UNKNOWN_SITE),
        ("site", "", Why.UNKNOWN_SITE),
        ("experiment", "job-2", Why.OTHER_EXPERIMENT),
        ("experiment", "", Why.OTHER_EXPERIMENT),
        ("round", 2, Why.STALE_ROUND),
        ("round", 4, Why.STALE_ROUND),
        ("round", 0, Why.STALE_ROUND),
        ("examples", 0, Why.NO_EXAMPLES),
        ("examples", 1001, Why.TOO_MANY_EXAMPLES),
        ("examples", 10**9, Why.TOO_MANY_EXAMPLES),
        ("examples", 2**64 - 1, Why.TOO_MANY_EXAMPLES),
        ("delta_sha256", b"\0" * 32, Why.CHECKSUM),
        ("delta_sha256", b"", Why.CHECKSUM),
    ],
)
def test_a_wrong_field_is_named(field: str, value: Any, reason: Why) -> None:
    update, arrays = good()
    setattr(update, field, value)
    assert why(encode(update, arrays)) is reason


def test_a_delta_changed_on_the_way_does_not_match_its_checksum() -> None:
    update, arrays = good()
    arrays["delta"] = arrays["delta"][::-1]
    assert why(encode(update, arrays)) is Why.CHECKSUM


# --- which keys


def _missing(update: Update) -> None:
    del update.tensors[0]


def _extra(update: Update) -> None:
    update.tensors.add(key="classifier.weight", dtype="float32", shape=[2])


def _twice(update: Update) -> None:
    update.tensors.add(key="b.bias", dtype="float32", shape=[4])


def _renamed(update: Update) -> None:
    update.tensors[0].key = "a.wait"


def _reordered(update: Update) -> None:
    tensors = [update.tensors[1], update.tensors[0]]
    update.tensors.MergeFrom(tensors)
    del update.tensors[:2]


def _reshaped(update: Update) -> None:
    update.tensors[0].shape[:] = [3, 2]


def _flattened(update: Update) -> None:
    update.tensors[0].shape[:] = [6]


def _double(update: Update) -> None:
    update.tensors[0].dtype = "float64"


def _statistics(update: Update) -> None:
    update.batchnorm.add(key="bn.0", dtype="float32", shape=[2])


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (_missing, Why.MISSING_KEY),
        (_renamed, Why.MISSING_KEY),
        (_extra, Why.EXTRA_KEY),
        (_twice, Why.EXTRA_KEY),
        (_statistics, Why.EXTRA_KEY),
        (_reshaped, Why.WRONG_SHAPE),
        (_flattened, Why.WRONG_SHAPE),
        (_double, Why.WRONG_DTYPE),
        (_reordered, Why.MALFORMED),
    ],
)
def test_wrong_keys_are_named(change: Callable[[Update], None], reason: Why) -> None:
    update, arrays = good()
    change(update)
    assert why(encode(update, arrays)) is reason


def test_statistics_that_are_not_asked_for_are_refused() -> None:
    update, arrays = good(pooled=True)
    assert why(encode(update, arrays)) is Why.EXTRA_KEY


def test_statistics_that_are_asked_for_must_be_there() -> None:
    update, arrays = good()
    assert why(encode(update, arrays), POOLED) is Why.MISSING_KEY
    update, arrays = good(pooled=True)
    del arrays["bn_var"]
    assert why(encode(update, arrays), POOLED) is Why.MISSING_KEY


# --- which arrays


@pytest.mark.parametrize(
    ("array", "reason"),
    [
        pytest.param(np.zeros(10, np.float64), Why.WRONG_DTYPE, id="float64"),
        pytest.param(np.zeros(10, np.float16), Why.WRONG_DTYPE, id="float16"),
        pytest.param(np.zeros(10, np.int32), Why.WRONG_DTYPE, id="int32"),
        pytest.param(np.zeros(10, np.uint8), Why.WRONG_DTYPE, id="uint8"),
        pytest.param(np.zeros(10, np.complex64), Why.WRONG_DTYPE, id="complex64"),
        pytest.param(np.zeros(10, ">f4"), Why.WRONG_DTYPE, id="big-endian"),
        pytest.param(np.zeros(9, np.float32), Why.WRONG_SHAPE, id="one short"),
        pytest.param(np.zeros(11, np.float32), Why.WRONG_SHAPE, id="one too many"),
        pytest.param(np.zeros(0, np.float32), Why.WRONG_SHAPE, id="empty"),
        pytest.param(np.zeros((10, 1), np.float32), Why.WRONG_SHAPE, id="column"),
        pytest.param(np.zeros((2, 5), np.float32), Why.WRONG_SHAPE, id="matrix"),
        pytest.param(np.full(10, np.nan, np.float32), Why.NOT_FINITE, id="NaN"),
        pytest.param(np.full(10, np.inf, np.float32), Why.NOT_FINITE, id="Inf"),
        pytest.param(np.full(10, -np.inf, np.float32), Why.NOT_FINITE, id="-Inf"),
        pytest.param(np.array([np.nan] + [0] * 9, np.float32), Why.NOT_FINITE, id="one NaN"),
        pytest.param(np.array([np.inf, -np.inf] + [0] * 8, np.float32), Why.NOT_FINITE, id="Inf and -Inf"),
        pytest.param(np.full(10, 1e30, np.float32), Why.TOO_LARGE, id="1e30"),
        pytest.param(np.full(10, 3.4e38, np.float32), Why.TOO_LARGE, id="3.4e38"),
        pytest.param(np.array([20.01] + [0] * 9, np.float32), Why.TOO_LARGE, id="just above"),
    ],
)
def test_a_wrong_delta_is_named(array: np.ndarray[Any, Any], reason: Why) -> None:
    update, _ = good()
    assert why(packed(update, {"delta": array})) is reason


@pytest.mark.parametrize("name", ["bn_mean", "bn_var"])
@pytest.mark.parametrize(
    ("value", "reason"),
    [(np.nan, Why.NOT_FINITE), (np.inf, Why.NOT_FINITE), (-np.inf, Why.NOT_FINITE), (1e30, Why.TOO_LARGE)],
)
def test_wrong_statistics_are_named(name: str, value: float, reason: Why) -> None:
    update, arrays = good(pooled=True)
    arrays[name] = np.array([1, 1, value], np.float32)
    assert why(encode(update, arrays), POOLED) is reason


def test_a_negative_variance_is_named() -> None:
    update, arrays = good(pooled=True)
    arrays["bn_var"] = np.array([1, -1e-6, 1], np.float32)
    assert why(encode(update, arrays), POOLED) is Why.NEGATIVE_VARIANCE


def test_a_variance_of_zero_goes_through() -> None:
    update, arrays = good(pooled=True)
    arrays["bn_var"] = np.zeros(3, np.float32)
    screen(reply_with(encode(update, arrays)), "north", POOLED)


def test_missing_and_extra_arrays_are_named() -> None:
    update, arrays = good()
    assert why(encode(update, {})) is Why.MISSING_KEY
    assert why(encode(update, {"Delta": arrays["delta"]})) is Why.MISSING_KEY
    assert why(encode(update, arrays | {"images": np.zeros(3, np.uint8)})) is Why.EXTRA_KEY


@pytest.mark.parametrize(
    "inside",
    [
        np.zeros(10, np.float64),
        np.zeros(10, np.int32),
        np.zeros(9, np.float32),
        np.zeros((2, 5), np.float32),
        np.zeros(10, ">f4"),
        np.array(["x"] * 10),
        np.zeros((), np.float32),
    ],
    ids=lambda a: f"{a.dtype} {a.shape}",
)
def test_a_header_that_lies_about_its_bytes_is_malformed(inside: np.ndarray[Any, Any]) -> None:
    assert why(with_raw("delta", Array("float32", (10,), "numpy.ndarray", npy(inside)))) is Why.MALFORMED


def _archive() -> bytes:
    buffer = BytesIO()
    np.savez(buffer, delta=np.zeros(10, np.float32))
    return buffer.getvalue()


def _header(text: str) -> bytes:
    raw = text.encode()
    return b"\x93NUMPY\x01\x00" + len(raw).to_bytes(2, "little") + raw


BYTES = {
    "nothing": b"",
    "random": b"\x01\x02\x03",
    "header cut": npy(np.zeros(10, np.float32))[:40],
    "data cut": npy(np.zeros(10, np.float32))[:-1],
    "no header": b"\x93NUMPY",
    "pickled": b"\x80\x04\x95\x0b\x00\x00\x00\x00\x00\x00\x00]\x94(K\x01K\x02e.",
    "object array": _header("{'descr': '|O', 'fortran_order': False, 'shape': (10,), }\n") + b"\x80\x04]\x94.",
    "archive": _archive(),
    "broken archive": b"PK\x03\x04" + b"\0" * 40,
    "empty archive": b"PK\x05\x06" + b"\0" * 18,
    "petabytes": _header("{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000000000,), }\n"),
    "overflow": _header("{'descr': '<f4', 'fortran_order': False, 'shape': (9223372036854775807, 9), }\n"),
    "negative": _header("{'descr': '<f4', 'fortran_order': False, 'shape': (-10,), }\n"),
    "nested": _header("(" * 3000 + "\n"),
    "unclosed": _header("{'descr': '''\n"),
    "no dtype": _header("{'descr': 'nonsense', 'fortran_order': False, 'shape': (10,), }\n"),
}


@pytest.mark.parametrize("data", BYTES.values(), ids=BYTES.keys())
def test_bytes_that_are_no_array_are_malformed(data: bytes) -> None:
    assert why(with_raw("delta", Array("float32", (10,), "numpy.ndarray", data))) is Why.MALFORMED


def test_another_serialisation_is_malformed() -> None:
    data = npy(np.zeros(10, np.float32))
    assert why(with_raw("delta", Array("float32", (10,), "torch.tensor", data))) is Why.MALFORMED


@given(st.binary(max_size=200))
def test_random_bytes_never_do_more_than_refuse(data: bytes) -> None:
    for prefix in (b"", b"\x93NUMPY\x01\x00", b"\x93NUMPY\x02\x00", b"PK\x03\x04"):
        records = with_raw("delta", Array("float32", (10,), "numpy.ndarray", prefix + data))
        assert why(records) in (Why.MALFORMED, Why.CHECKSUM)


@given(st.binary(max_size=300), st.sampled_from(["Update", "Refusal", "Enrolment", "Evaluation", ""]))
def test_random_payloads_never_do_more_than_refuse(payload: bytes, kind: str) -> None:
    records = encode(*good())
    records["wire"] = ConfigRecord({"kind": kind, "payload": payload})
    with pytest.raises(Rejected):
        screen(reply_with(records), "north", EXPECTED)


# --- all replies of a round


def test_a_second_answer_under_one_name_is_left_out() -> None:
    first, second = good(), good()
    second[1]["delta"] = -second[1]["delta"]
    replies = [("north", reply_with(packed(*first))), ("north", reply_with(packed(*second)))]
    updates, refused = screen_all(replies, EXPECTED)
    assert [u.delta.tobytes() for u in updates] == [first[1]["delta"].tobytes()]
    assert refused["north"].why is Why.DUPLICATE_SITE


def test_updates_come_in_the_order_of_their_names_and_refusals_by_name() -> None:
    def from_site(site: str) -> Any:
        update, arrays = good()
        update.site = site
        return site, reply_with(encode(update, arrays))

    bad = ("west", reply_with(refusal("west", Reason.REASON_DATA)))
    updates, refused = screen_all([from_site("north"), bad, ("south", None), from_site("east")], EXPECTED)
    assert [u.site for u in updates] == ["east", "north"]
    assert {site: str(r) for site, r in refused.items()} == {
        "west": "refused: data",
        "south": "no_reply: nothing before the deadline",
    }


def test_each_reason_is_tested_here() -> None:
    text = Path(__file__).read_text(encoding="utf-8")
    assert [w.name for w in Why if f"Why.{w.name}" not in text] == []
