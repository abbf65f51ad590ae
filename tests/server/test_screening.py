"""Screening: each thing that can be wrong with a reply has a name, and the rest goes through unchanged."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import ConfigRecord, RecordDict

from protos.codec import SCHEMA_VERSION, encode, refusal
from protos.wire_pb2 import REASON_POLICY, Enrolment, Refusal, Update
from server.screening import Rejected, Why, screen
from tests.server.builders import error_reply, reply_with
from tests.server.screening_builders import EXPECTED, POOLED, good, packed, why

# --- what goes through


def test_a_good_update_goes_through_unchanged() -> None:
    update, arrays = good()
    screened = screen(reply_with(encode(update, arrays)), "north", EXPECTED)
    assert (screened.site, screened.examples, screened.batchnorm) == ("north", 40, None)
    assert screened.delta.floats().tobytes() == arrays["delta"].tobytes()


def test_pooled_statistics_go_through_unchanged() -> None:
    update, arrays = good(pooled=True)
    screened = screen(reply_with(encode(update, arrays)), "north", POOLED)
    assert screened.batchnorm is not None
    assert screened.batchnorm.mean.floats().tobytes() == arrays["bn_mean"].tobytes()
    assert screened.batchnorm.var.floats().tobytes() == arrays["bn_var"].tobytes()


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
    update.schema_version = SCHEMA_VERSION + 1
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


def test_each_reason_is_tested_here() -> None:
    here = Path(__file__).parent
    files = [*here.glob("test_screening*.py"), here / "test_intake.py"]
    text = "".join(path.read_text(encoding="utf-8") for path in files)
    assert [w.name for w in Why if f"Why.{w.name}" not in text] == []
