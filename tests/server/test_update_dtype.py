"""Updates in float16: half the bytes, nearly the same result, and neither end takes a type that was not agreed on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from client.app import app
from client.egress import Gate, seal
from client.journal import Journal
from protos.codec import decode, encode, sha256, specs_to_proto
from protos.wire_pb2 import Update
from server.screening import Why, screen
from server.state import ServerState, init
from socket_core.config import UpdateType, parse_experiment
from socket_core.errors import ConfigError, MethodError, PolicyError
from socket_core.packing import pack
from tests.server.builders import Bench, RecordingGrid, World, reply_with, short_bench
from tests.server.screening_builders import EXPECTED, POOLED, TENSORS, good, why

HALF = replace(EXPECTED, dtype="float16")


def in_half(*, pooled: bool = False) -> tuple[Update, dict[str, np.ndarray[Any, Any]]]:
    """A good update whose change is of float16; statistics stay as they are."""
    update, arrays = good(pooled=pooled)
    arrays["delta"] = pack(arrays["delta"], TENSORS, "float16").values
    del update.tensors[:]
    update.tensors.extend(specs_to_proto(TENSORS, "float16"))
    update.delta_sha256 = sha256(arrays["delta"])
    return update, arrays


@given(values=st.lists(st.floats(-60_000, 60_000, width=32), max_size=20))
def test_each_value_keeps_eleven_bits(values: list[float]) -> None:
    change = np.array(values, np.float32)
    half = pack(change, (), "float16").floats()
    assert (np.abs(half - change) <= np.maximum(2.0**-11 * np.abs(change), 2.0**-25)).all()
    assert pack(change, (), "float32").values is change


def test_what_float16_cannot_hold_is_refused_and_not_sent_as_infinity() -> None:
    with pytest.raises(MethodError, match="65504"):
        pack(np.array([0.0, 7e4], np.float32), (), "float16")


def test_the_server_counts_in_float32() -> None:
    update, arrays = in_half()
    found = screen(reply_with(encode(update, arrays)), "north", HALF)
    assert found.delta.floats().dtype == np.float32
    assert np.array_equal(found.delta.floats(), arrays["delta"].astype(np.float32))
    assert found.norm == pytest.approx(float(np.linalg.norm(arrays["delta"].astype(np.float64))), rel=1e-12)


def test_another_type_than_agreed_is_refused_both_ways() -> None:
    assert why(encode(*in_half())) is Why.WRONG_DTYPE
    assert why(encode(*good()), HALF) is Why.WRONG_DTYPE
    update, arrays = in_half()
    assert why(encode(update, arrays | {"delta": arrays["delta"].astype(np.float32)}), HALF) is Why.WRONG_DTYPE


def test_statistics_stay_float32() -> None:
    update, arrays = in_half(pooled=True)
    expected = replace(POOLED, dtype="float16")
    assert screen(reply_with(encode(update, arrays)), "north", expected).batchnorm is not None
    halved = arrays | {"bn_var": arrays["bn_var"].astype(np.float16)}
    assert why(encode(update, halved), expected) is Why.WRONG_DTYPE


def test_the_gate_lets_out_what_the_list_of_tensors_says_and_writes_the_type_down(tmp_path: Path) -> None:
    gate = Gate("north", tmp_path / "egress.sqlite")
    update, arrays = in_half()
    seal(encode(update, arrays), gate)
    (entry,) = Journal(gate.journal).read()
    assert {line["dtype"] for line in entry["tensors"]} == {"float16"}
    assert [line["bytes"] for line in entry["tensors"]] == [12, 8]


@pytest.mark.parametrize(("said", "sent"), [("float32", "float16"), ("float16", "float32"), ("float64", "float64")])
def test_the_gate_refuses_other_types_than_said_and_other_than_these_two(tmp_path: Path, said: str, sent: str) -> None:
    update, arrays = in_half()
    del update.tensors[:]
    update.tensors.extend(specs_to_proto(TENSORS, said))
    with pytest.raises(PolicyError, match="not declared"):
        seal(encode(update, {"delta": arrays["delta"].astype(sent)}), Gate("north", tmp_path / "egress.sqlite"))


def test_the_gate_refuses_a_list_of_two_types(tmp_path: Path) -> None:
    update, arrays = in_half()
    update.tensors[1].dtype = "float32"
    with pytest.raises(PolicyError, match="not declared"):
        seal(encode(update, arrays), Gate("north", tmp_path / "egress.sqlite"))


@pytest.mark.parametrize(("dtype", "share", "off"), [("float16", 0.5, 0.05), ("int8", 0.25, 0.1)])
def test_a_federation_sends_fewer_bytes_up_and_ends_nearly_where_it_did(
    world: World, tmp_path: Path, dtype: UpdateType, share: float, off: float
) -> None:
    def run(dtype: UpdateType) -> tuple[Bench, ServerState, int]:
        bench = short_bench(world, tmp_path / dtype, federation__update_dtype=dtype)
        grid = RecordingGrid(app, bench.contexts())
        state = bench.run(grid)
        updates = [r.content for r in grid.received if "arrays" in r.content]
        assert {decode(u, Update).tensors[0].dtype for u in updates} == {dtype}
        return bench, state, sum(len(u.array_records["arrays"]["delta"].data) for u in updates)

    bench, full, bytes_full = run("float32")
    _, fewer, bytes_fewer = run(dtype)
    assert bytes_fewer / bytes_full == pytest.approx(share, abs=0.01)
    start = init(bench.release.network(), bench.experiment, full.experiment).parameters
    moved = float(np.linalg.norm(full.parameters - start))
    assert 0 < float(np.linalg.norm(fewer.parameters - full.parameters)) < off * moved


# --- int8

LEVELS = replace(EXPECTED, dtype="int8")


def in_levels() -> tuple[Update, dict[str, np.ndarray[Any, Any]]]:
    """A good update in int8."""
    update, arrays = good()
    packed = pack(arrays["delta"], TENSORS, "int8")
    del update.tensors[:]
    update.tensors.extend(specs_to_proto(TENSORS, "int8"))
    update.scales.extend(packed.scales.tolist())
    update.delta_sha256 = sha256(packed.values)
    return update, {"delta": packed.values}


def test_levels_are_counted_times_their_scales() -> None:
    update, arrays = in_levels()
    found = screen(reply_with(encode(update, arrays)), "north", LEVELS)
    scales = np.repeat(np.array(update.scales, np.float32), (6, 4))
    assert np.array_equal(found.delta.floats(), arrays["delta"] * scales)
    assert np.abs(found.delta.floats() - good()[1]["delta"]).max() <= 0.5 * scales.max() * 1.0001


@pytest.mark.parametrize(
    ("scales", "reason"),
    [
        ([], Why.WRONG_SHAPE),
        ([0.1], Why.WRONG_SHAPE),
        ([0.1, 0.1, 0.1], Why.WRONG_SHAPE),
        ([0.1] * 100_000, Why.WRONG_SHAPE),
        ([0.1, float("nan")], Why.NOT_FINITE),
        ([float("inf"), 0.1], Why.NOT_FINITE),
        ([-0.1, 0.1], Why.MALFORMED),
        ([3e38, 0.1], Why.NOT_FINITE),
        ([1e9, 0.1], Why.TOO_LARGE),
    ],
)
def test_hostile_scales_are_named(scales: list[float], reason: Why) -> None:
    update, arrays = in_levels()
    del update.scales[:]
    update.scales.extend(scales)
    assert why(encode(update, arrays), LEVELS) is reason


def test_scales_beside_another_type_are_refused_at_both_ends(tmp_path: Path) -> None:
    update, arrays = good()
    update.scales.extend([0.1, 0.1])
    assert why(encode(update, arrays)) is Why.WRONG_SHAPE
    with pytest.raises(PolicyError, match="2 scales"):
        seal(encode(update, arrays), Gate("north", tmp_path / "egress.sqlite"))


def test_the_gate_wants_a_scale_for_each_tensor_and_writes_them_down(tmp_path: Path) -> None:
    gate = Gate("north", tmp_path / "egress.sqlite")
    update, arrays = in_levels()
    seal(encode(update, arrays), gate)
    (entry,) = Journal(gate.journal).read()
    assert {line["dtype"] for line in entry["tensors"]} == {"int8"}
    (line,) = [line for line in entry["scalars"] if line["key"] == "scales"]
    assert (line["shape"], line["dtype"]) == ([2], "float")
    del update.scales[0]
    with pytest.raises(PolicyError, match="1 scales of 2 tensors"):
        seal(encode(update, arrays), gate)


def test_protection_of_whole_sites_takes_no_residuals() -> None:
    raw = {"federation": {"weighting": "equal", "update_dtype": "int8"}, "site_privacy": {"clip": 1.0, "sigma": 2.0}}
    with pytest.raises(ConfigError, match="residuals"):
        parse_experiment(raw, where="test")
    raw["federation"] = {"weighting": "equal", "update_dtype": "float16", "download_dtype": "int8"}
    assert parse_experiment(raw, where="test").federation.download_dtype == "int8"
