"""An update that fits its expectation, to be spoilt in one way at a time, and the reason for which that is refused."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from flwr.app import RecordDict

from protos.codec import encode, sha256, specs_to_proto
from protos.wire_pb2 import Update
from server.screening import Expectation, Rejected, Why, screen
from tests.server.builders import reply_with

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
