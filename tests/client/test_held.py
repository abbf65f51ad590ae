"""Parameters come whole, as a change, or not at all; whatever the way, they are those that the request names."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from client.held import parameters_for
from client.store import HELD, SiteStore
from protos.codec import WireError, sha256
from protos.wire_pb2 import REASON_BASE, REASON_MALFORMED, RoundRequest
from socket_core.config import UpdateType
from socket_core.exchange import Flat, flatten, length, parameters_of, travelling_specs
from socket_core.packing import Packed, pack
from tests.core.release_builders import make_network

NETWORK = make_network()
SPECS = travelling_specs(NETWORK, "local")
START = flatten(parameters_of(NETWORK), SPECS)
CHANGE = np.random.default_rng(0).normal(0, 1e-2, length(SPECS)).astype(np.float32)


def ask(
    store: SiteStore, flat: Flat, *, whole: Flat | None = None, base: Flat | None = None, step: Packed | None = None
) -> Flat:
    request = RoundRequest(experiment="job-1", round=2, parameters_sha256=sha256(flat))
    if step is not None and base is not None:
        request.base_sha256 = sha256(base)
        request.scales.extend(step.scales.tolist())
    return parameters_for(store, request, NETWORK, SPECS, whole=whole, change=step.values if step is not None else None)


def test_what_came_whole_is_held_and_need_not_come_again(tmp_path: Path) -> None:
    store, flat = SiteStore(tmp_path), START + CHANGE
    assert ask(store, flat, whole=flat) is flat
    assert store.held_digest("job-1") == sha256(flat)
    before = (tmp_path / "jobs" / "job-1" / HELD).stat().st_mtime_ns
    assert ask(store, flat).tobytes() == flat.tobytes()
    assert (tmp_path / "jobs" / "job-1" / HELD).stat().st_mtime_ns == before, "not written again"


def test_at_first_everybody_holds_those_of_the_release(tmp_path: Path) -> None:
    assert ask(SiteStore(tmp_path), START).tobytes() == START.tobytes()


@pytest.mark.parametrize("dtype", ["float16", "int8"])
def test_a_change_gives_the_owners_parameters_to_the_bit_round_after_round(tmp_path: Path, dtype: UpdateType) -> None:
    store, owners = SiteStore(tmp_path), START
    for scale in (1.0, 0.1, 3.0):
        step = pack(scale * CHANGE, SPECS, dtype)
        after = owners + step.floats()
        assert ask(store, after, base=owners, step=step).tobytes() == after.tobytes()
        assert store.held_digest("job-1") == sha256(after)
        owners = after


@pytest.mark.parametrize("damage", ["gone", "cut short", "a bit", "of another round"])
def test_a_site_that_does_not_hold_the_base_says_so_and_takes_them_whole(tmp_path: Path, damage: str) -> None:
    store, base = SiteStore(tmp_path), START + CHANGE
    step = pack(CHANGE, SPECS, "int8")
    after = base + step.floats()
    ask(store, base, whole=base)
    path = tmp_path / "jobs" / "job-1" / HELD
    content = bytearray(path.read_bytes())
    if damage == "gone":
        path.unlink()
    elif damage == "cut short":
        path.write_bytes(content[:-5])
    elif damage == "a bit":
        content[-5] ^= 1
        path.write_bytes(content)
    else:
        ask(store, START, whole=START)
    with pytest.raises(WireError) as caught:
        ask(store, after, base=base, step=step)
    assert caught.value.reason == REASON_BASE
    assert ask(store, after, whole=after) is after


def test_parameters_other_than_the_request_says_are_not_worked_with(tmp_path: Path) -> None:
    with pytest.raises(WireError) as caught:
        ask(SiteStore(tmp_path), START, whole=START + CHANGE)
    assert caught.value.reason == REASON_MALFORMED
    assert SiteStore(tmp_path).held_digest("job-1") == b""


def test_a_wrong_number_of_scales_is_malformed(tmp_path: Path) -> None:
    step = pack(CHANGE, SPECS, "int8")
    short = Packed(step.values, step.scales[:-1], step.ends)
    with pytest.raises(WireError) as caught:
        ask(SiteStore(tmp_path), START, base=START, step=short)
    assert caught.value.reason == REASON_MALFORMED


def test_a_hostile_change_is_no_warning_and_no_result(tmp_path: Path) -> None:
    step = pack(CHANGE, SPECS, "int8")
    hostile = Packed(step.values, np.full(len(SPECS), 3e38, np.float32), step.ends)
    with pytest.raises(WireError) as caught:
        ask(SiteStore(tmp_path), START, base=START, step=hostile)
    assert caught.value.reason == REASON_BASE


def test_parameters_of_one_job_are_kept(tmp_path: Path) -> None:
    store = SiteStore(tmp_path)
    for job in ("job-1", "job-2"):
        store.save_parameters(job, START, sha256(START))
    assert [p.parent.name for p in tmp_path.rglob("*") if p.is_file()] == ["job-2"]
    assert store.load_parameters("job-1", sha256(START)) is None
