"""Screening of arrays: wrong values, shapes and dtypes are named, and bytes that are no array do no harm."""

from __future__ import annotations

from io import BytesIO
from typing import Any

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, RecordDict
from hypothesis import given
from hypothesis import strategies as st

from protos.codec import encode
from server.screening import Rejected, Why, screen
from tests.server.builders import reply_with
from tests.server.screening_builders import EXPECTED, POOLED, good, packed, why


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
    "negative twice": _header("{'descr': '<f4', 'fortran_order': False, 'shape': (-1, -10), }\n") + bytes(40),
    "a truth": _header("{'descr': '<f4', 'fortran_order': False, 'shape': (True,), }\n") + bytes(4),
    "empty and endless": _header(f"{{'descr': '<f4', 'fortran_order': False, 'shape': (0, {10**31}), }}\n"),
    "65 dimensions": _header(f"{{'descr': '<f4', 'fortran_order': False, 'shape': {(1,) * 65}, }}\n") + bytes(4),
    "array of arrays": _header("{'descr': ('<f4', (2,)), 'fortran_order': False, 'shape': (5,), }\n") + bytes(40),
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
