"""Replies as they arrive: screened, put on the disk, let go; and their sum is that of all at once, to the bit."""

from __future__ import annotations

import tracemalloc
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import Message
from hypothesis import given
from hypothesis import strategies as st

from protos.codec import encode, refusal, sha256, specs_to_proto
from protos.wire_pb2 import Reason, Update
from server.aggregation import Blur, SiteUpdate, apply
from server.intake import Intake
from server.screening import Expectation, Why, screen
from server.state import ServerState
from socket_core import packing
from socket_core.config import UpdateType
from socket_core.errors import FederationError
from socket_core.exchange import length
from socket_core.packing import pack
from tests.server.builders import reply_with
from tests.server.screening_builders import EXPECTED, good, packed

SPECS = (("a", (37, 5)), ("b", (3,)), ("c", ()), ("d", (101,)))
SIZE = length(SPECS)


def expectation(dtype: UpdateType, specs: Any = SPECS, *, pooled: bool = False) -> Expectation:
    batchnorm = (("bn", (7,)),) if pooled else ()
    return Expectation("job", 1, specs, batchnorm, 1e3, 10**6, 10.0, dtype=dtype)


def reply_of(site: str, change: Any, dtype: UpdateType, specs: Any = SPECS, *, pooled: bool = False) -> Message:
    """An update as it arrives; its number of images is drawn from the change."""
    delta = pack(np.asarray(change, np.float32), specs, dtype)
    update = Update(experiment="job", site=site, round=1, examples=1 + int(abs(change[0] * 100)) % 50)
    update.tensors.extend(specs_to_proto(specs, dtype))
    update.delta_sha256, arrays = sha256(delta.values), {"delta": delta.values}
    update.scales.extend(delta.scales.tolist())
    if pooled:
        update.batchnorm.extend(specs_to_proto((("bn", (7,)),)))
        arrays |= {"bn_mean": delta.floats()[:7].copy(), "bn_var": np.abs(delta.floats()[7:14])}
    return reply_with(encode(update, arrays))


def changes(sites: int, seed: int = 0, size: int = SIZE) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    return {f"site-{i:02d}": rng.normal(0, 10.0 ** rng.integers(-3, 2), size).astype(np.float32) for i in range(sites)}


@pytest.mark.parametrize("dtype", ["float32", "float16", "int8"])
@pytest.mark.parametrize("pooled", [False, True])
@given(order=st.permutations(range(5)), stretch=st.sampled_from([1, 7, 64, 1000]))
def test_in_any_order_the_sum_is_that_of_all_at_once_to_the_bit(
    tmp_path_factory: pytest.TempPathFactory, dtype: UpdateType, pooled: bool, order: list[int], stretch: int
) -> None:
    folder, expected = tmp_path_factory.mktemp("intake") / "arriving", expectation(dtype, pooled=pooled)
    replies = [(s, reply_of(s, c, dtype, pooled=pooled)) for s, c in changes(5).items()]
    state = ServerState("job", 0, np.linspace(-1, 1, SIZE, dtype=np.float32))
    at_once = [screen(reply, site, expected) for site, reply in replies]
    weights = np.array([u.examples for u in at_once], np.float64)
    total = np.zeros(SIZE)
    for weight, update in zip(weights / weights.sum(), at_once, strict=True):
        total += weight * update.delta.floats().astype(np.float64)

    with pytest.MonkeyPatch.context() as patch, Intake(folder, expected) as intake:
        patch.setattr(packing.stretches, "__defaults__", (stretch,))
        for index in order:
            intake.take(*replies[index])
        after = apply(state, intake.updates(), "examples")
        private = apply(state, intake.updates(), "equal", blur=Blur(5, 1.0))
    assert after.parameters.tobytes() == (state.parameters + total.astype(np.float32)).tobytes()
    in_memory = apply(state, at_once, "examples")
    assert after.parameters.tobytes() == in_memory.parameters.tobytes()
    assert private.parameters.tobytes() == apply(state, at_once, "equal", blur=Blur(5, 1.0)).parameters.tobytes()
    if pooled:
        assert after.batchnorm is not None
        assert in_memory.batchnorm is not None
        assert after.batchnorm.mean.tobytes() == in_memory.batchnorm.mean.tobytes()
        assert after.batchnorm.var.tobytes() == in_memory.batchnorm.var.tobytes()


# --- memory

LARGE = (("a", (512, 1024)), ("b", (1000,)))
PAYLOAD = 4 * length(LARGE)


def _peak(folder: Path, sites: int, dtype: UpdateType) -> tuple[int, ServerState]:
    """Largest memory above what was there before a round of so many sites, in bytes."""
    change = changes(1, size=length(LARGE))["site-00"]
    state = ServerState("job", 0, np.zeros(length(LARGE), np.float32))
    tracemalloc.start()
    try:
        with Intake(folder, expectation(dtype, LARGE)) as intake:
            before = tracemalloc.get_traced_memory()[0]
            tracemalloc.reset_peak()
            for index in range(sites):
                intake.take(f"site-{index:02d}", reply_of(f"site-{index:02d}", change, dtype, LARGE))
            after = apply(state, intake.updates(), "equal")
        return tracemalloc.get_traced_memory()[1] - before, after
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("dtype", ["float32", "float16", "int8"])
def test_memory_does_not_grow_with_the_number_of_sites(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dtype: UpdateType
) -> None:
    monkeypatch.setattr(packing.stretches, "__defaults__", (1 << 14,))
    few, many = _peak(tmp_path / "few", 2, dtype)[0], _peak(tmp_path / "many", 40, dtype)[0]
    assert many < few + 0.1 * PAYLOAD
    # Of float32: the new parameters, and before that one reply with the copy that the test makes of it.
    assert many < 2.5 * PAYLOAD


def test_a_reply_is_let_go_once_it_is_written(tmp_path: Path) -> None:
    with Intake(tmp_path / "arriving", expectation("float32")) as intake:
        reply = reply_of("site-00", changes(1)["site-00"], "float32")
        alive = weakref.ref(reply)
        intake.take("site-00", reply)
        del reply
        assert alive() is None
        assert [u.site for u in intake.updates()] == ["site-00"]


# --- all replies of a round


def test_a_second_answer_under_one_name_is_left_out(tmp_path: Path) -> None:
    first, second = good(), good()
    second[1]["delta"] = -second[1]["delta"]
    with Intake(tmp_path / "arriving", EXPECTED) as intake:
        intake.take("north", reply_with(packed(*first)))
        intake.take("north", reply_with(packed(*second)))
        assert [u.delta.floats().tobytes() for u in intake.updates()] == [first[1]["delta"].tobytes()]
        assert intake.refused["north"].why is Why.DUPLICATE_SITE


def test_updates_come_in_the_order_of_their_names_and_refusals_by_name(tmp_path: Path) -> None:
    def from_site(site: str) -> tuple[str, Message]:
        update, arrays = good()
        update.site = site
        return site, reply_with(encode(update, arrays))

    bad = ("west", reply_with(refusal("west", Reason.REASON_DATA)))
    with Intake(tmp_path / "arriving", EXPECTED) as intake:
        for site, reply in (from_site("north"), bad, ("south", None), from_site("east")):
            intake.take(site, reply)
        assert [u.site for u in intake.updates()] == ["east", "north"]
        assert {site: str(r) for site, r in intake.refused.items()} == {
            "west": "refused: data",
            "south": "no_reply: nothing before the deadline",
        }


# --- the folder


def test_nothing_is_left_behind_and_what_a_crash_left_is_not_taken_for_an_update(tmp_path: Path) -> None:
    folder = tmp_path / "arriving"
    folder.mkdir()
    (folder / "000000.bin").write_bytes(b"of a round that was interrupted")
    change = changes(1)["site-00"]
    with Intake(folder, expectation("float32")) as intake:
        assert list(folder.iterdir()) == []
        intake.take("site-00", reply_of("site-00", change, "float32"))
        assert [path.stat().st_size for path in folder.iterdir()] == [4 * SIZE]
    assert not folder.exists()


def test_a_full_disk_ends_the_round_with_a_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    reply = reply_of("site-00", changes(1)["site-00"], "float32")
    with Intake(tmp_path / "arriving", expectation("float32")) as intake:
        monkeypatch.setattr(Path, "open", full)
        with pytest.raises(FederationError, match=r"(?s)cannot be written.*No space left.*make room"):
            intake.take("site-00", reply)


@pytest.mark.parametrize("damage", ["gone", "cut short"])
def test_a_file_that_is_gone_or_cut_short_is_no_update(tmp_path: Path, damage: str) -> None:
    folder = tmp_path / "arriving"
    with Intake(folder, expectation("float32")) as intake:
        intake.take("site-00", reply_of("site-00", changes(1)["site-00"], "float32"))
        (path,) = folder.iterdir()
        if damage == "gone":
            path.unlink()
        else:
            path.write_bytes(path.read_bytes()[:-1])
        updates: list[SiteUpdate] = intake.updates()
        with pytest.raises(FederationError, match="cannot be read"):
            apply(ServerState("job", 0, np.zeros(SIZE, np.float32)), updates, "equal")
