"""What an update must satisfy before it may touch the global model.

A site is believed about nothing that can be checked: identity, round, keys, shapes, types, checksum, size
and finiteness are. Each refusal has a name; the round goes on without the site if the quorum holds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from flwr.app import Message, RecordDict
from numpy.typing import NDArray

from protos.codec import WireError, array_record, decode, kind_of, reason_name, sha256, values_of
from protos.release_pb2 import TensorSpec
from protos.wire_pb2 import REASON_SCHEMA, Refusal, Update
from server.aggregation import SiteUpdate, Statistics
from socket_core.config import UpdateType
from socket_core.exchange import Flat, Spec, length
from socket_core.packing import Packed, as_it_is, ends_of, norm_of

LARGEST_STATISTIC = 1e15
"""Of a mean or variance: pooling squares means, and float32 ends at 3.4e38."""


class Why(StrEnum):
    """Names of all refusals; ``docs/exit-codes.md`` explains them."""

    NO_REPLY = "no_reply"
    SITE_ERROR = "site_error"
    REFUSED = "refused"
    SCHEMA = "schema"
    MALFORMED = "malformed"
    UNKNOWN_SITE = "unknown_site"
    DUPLICATE_SITE = "duplicate_site"
    OTHER_EXPERIMENT = "other_experiment"
    STALE_ROUND = "stale_round"
    MISSING_KEY = "missing_key"
    EXTRA_KEY = "extra_key"
    WRONG_SHAPE = "wrong_shape"
    WRONG_DTYPE = "wrong_dtype"
    CHECKSUM = "checksum"
    NO_EXAMPLES = "no_examples"
    TOO_MANY_EXAMPLES = "too_many_examples"
    NOT_FINITE = "not_finite"
    TOO_LARGE = "too_large"
    NEGATIVE_VARIANCE = "negative_variance"


class Rejected(Exception):
    """An update that is left out, and why."""

    def __init__(self, why: Why, detail: str = "") -> None:
        super().__init__(f"{why}: {detail}" if detail else str(why))
        self.why, self.detail = why, detail


@dataclass(frozen=True)
class Expectation:
    """What the server knows before it looks at a reply.

    Attributes:
        experiment: The job asked for.
        round: The round asked for, 1-based.
        tensors: Keys and shapes of the travelling parameters.
        batchnorm: Layers and channels of the travelling statistics.
        parameter_norm: L2 norm of the parameters sent out.
        max_examples: Largest number of images that a site may claim.
        max_relative_update: Largest norm of a delta as a multiple of ``parameter_norm``.
        largest_share: Largest norm of a delta that carries its site's share of noise, in place of the multiple.
        dtype: What the delta travels in.
    """

    experiment: str
    round: int
    tensors: tuple[Spec, ...]
    batchnorm: tuple[Spec, ...]
    parameter_norm: float
    max_examples: int
    max_relative_update: float
    largest_share: float | None = None
    dtype: UpdateType = "float32"


def screen(reply: Message | None, site: str, expected: Expectation) -> SiteUpdate:
    """The update in a reply from the node that enrolled as ``site``.

    Raises:
        Rejected: With the first reason found.
    """
    if reply is None:
        raise Rejected(Why.NO_REPLY, "nothing before the deadline")
    if reply.has_error():
        # The text of a site's error may name paths: only its number is kept.
        raise Rejected(Why.SITE_ERROR, f"Flower error code {reply.error.code}")
    update = _payload(reply.content)
    _check_identity(update, site, expected)
    _check_specs(update.tensors, expected.tensors, expected.dtype)
    _check_specs(update.batchnorm, expected.batchnorm, "float32")
    arrays = _arrays(reply.content, expected)
    if sha256(arrays["delta"]) != update.delta_sha256:
        raise Rejected(Why.CHECKSUM, "delta does not match its sha256")
    if update.examples < 1:
        raise Rejected(Why.NO_EXAMPLES, "claims 0 images")
    if update.examples > expected.max_examples:
        raise Rejected(Why.TOO_MANY_EXAMPLES, f"claims {update.examples}, the limit is {expected.max_examples}")
    ends = ends_of(expected.tensors)
    delta = Packed(arrays["delta"], _scales(update, expected), ends)  # type: ignore[arg-type]  # _arrays saw to it
    norm = norm_of(delta)
    _check_norm(norm, expected)
    statistics = None
    if expected.batchnorm:
        mean, var = arrays["bn_mean"].astype(np.float32, copy=False), arrays["bn_var"].astype(np.float32, copy=False)
        _check_statistics(mean, var)
        statistics = Statistics(as_it_is(mean), as_it_is(var))
    return SiteUpdate(site, update.examples, delta, norm, statistics)


def _payload(records: RecordDict) -> Update:
    try:
        if kind_of(records) == "Refusal":
            raise Rejected(Why.REFUSED, reason_name(decode(records, Refusal).reason))
        return decode(records, Update)
    except WireError as error:
        why = Why.SCHEMA if error.reason == REASON_SCHEMA else Why.MALFORMED
        raise Rejected(why, str(error)) from None


def _check_identity(update: Update, site: str, expected: Expectation) -> None:
    if update.site != site:
        raise Rejected(Why.UNKNOWN_SITE, f"enrolled as {site!r}, answers as {update.site[:64]!r}")
    if update.experiment != expected.experiment:
        raise Rejected(Why.OTHER_EXPERIMENT, repr(update.experiment[:64]))
    if update.round != expected.round:
        raise Rejected(Why.STALE_ROUND, f"round {update.round}, expected {expected.round}")


def _check_specs(found: Sequence[TensorSpec], expected: Sequence[Spec], dtype: str) -> None:
    shapes, wanted = {spec.key: tuple(spec.shape) for spec in found}, dict(expected)
    if missing := sorted(wanted.keys() - shapes.keys()):
        raise Rejected(Why.MISSING_KEY, missing[0])
    if extra := sorted(shapes.keys() - wanted.keys()):
        raise Rejected(Why.EXTRA_KEY, repr(extra[0][:128]))
    if len(found) != len(expected):
        raise Rejected(Why.EXTRA_KEY, "a key is listed twice")
    for spec in found:
        if tuple(spec.shape) != wanted[spec.key]:
            raise Rejected(Why.WRONG_SHAPE, f"{spec.key}: {tuple(spec.shape)}, expected {wanted[spec.key]}")
        if spec.dtype != dtype:
            raise Rejected(Why.WRONG_DTYPE, f"{spec.key}: {spec.dtype[:32]!r}, expected {dtype}")
    if [spec.key for spec in found] != [key for key, _ in expected]:
        raise Rejected(Why.MALFORMED, "keys are not in the agreed order")


def _arrays(records: RecordDict, expected: Expectation) -> dict[str, NDArray[np.generic]]:
    sizes = {"delta": length(expected.tensors)}
    if expected.batchnorm:
        sizes |= {"bn_mean": length(expected.batchnorm), "bn_var": length(expected.batchnorm)}
    record = array_record(records)
    if missing := sorted(sizes.keys() - record.keys()):
        raise Rejected(Why.MISSING_KEY, f"array {missing[0]}")
    if extra := sorted(record.keys() - sizes.keys()):
        raise Rejected(Why.EXTRA_KEY, f"array {extra[0][:128]!r}")
    out = {}
    for name, size in sizes.items():
        array, dtype = record[name], expected.dtype if name == "delta" else "float32"
        if array.dtype != dtype:
            raise Rejected(Why.WRONG_DTYPE, f"array {name}: {array.dtype[:32]!r}, expected {dtype}")
        if tuple(array.shape) != (size,):
            raise Rejected(Why.WRONG_SHAPE, f"array {name}: {tuple(array.shape)}, expected ({size},)")
        value = values_of(array)
        if value is None:
            raise Rejected(Why.MALFORMED, f"array {name} cannot be decoded")
        # The header inside the bytes is a second claim, and must agree with the first.
        if str(value.dtype) != dtype or value.shape != (size,):
            raise Rejected(Why.MALFORMED, f"array {name} is {value.dtype} {value.shape} inside")
        out[name] = value
    return out


def _scales(update: Update, expected: Expectation) -> NDArray[np.float32]:
    """Of an int8 delta, one for each tensor; none of any other."""
    scales = np.array(update.scales, dtype=np.float32)
    wanted = len(expected.tensors) if expected.dtype == "int8" else 0
    if len(scales) != wanted:
        raise Rejected(Why.WRONG_SHAPE, f"{len(scales)} scales, expected {wanted}")
    if not np.isfinite(scales).all():
        raise Rejected(Why.NOT_FINITE, "scales")
    if (scales < 0).any():
        raise Rejected(Why.MALFORMED, "a negative scale")
    return scales


def _check_norm(norm: float, expected: Expectation) -> None:
    if not math.isfinite(norm):
        raise Rejected(Why.NOT_FINITE, "array delta")
    relative = expected.max_relative_update * expected.parameter_norm
    limit = relative if expected.largest_share is None else expected.largest_share
    if norm > limit:
        raise Rejected(Why.TOO_LARGE, f"norm {norm:.3g}, the limit is {limit:.3g}")


def _check_statistics(mean: Flat, var: Flat) -> None:
    for name, value in (("bn_mean", mean), ("bn_var", var)):
        if not np.isfinite(value).all():
            raise Rejected(Why.NOT_FINITE, f"array {name}")
        if len(value) and np.abs(value).max() > LARGEST_STATISTIC:
            raise Rejected(Why.TOO_LARGE, f"array {name}, the limit is {LARGEST_STATISTIC:.0e}")
    if (var < 0).any():
        raise Rejected(Why.NEGATIVE_VARIANCE, "array bn_var")
