"""As little as will do: who holds parameters is not sent them, and what comes of it is the same to the bit."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import Message, RecordDict

from client.app import app
from client.store import HELD, SiteStore
from protos.codec import EVALUATE, TRAIN, array_record, sha256
from server import sending
from server.checkpoint import Identity, load_newest
from server.job import request_for
from server.rounds import ROUNDING, Observer
from server.sending import round_in_place
from server.state import ServerState, init
from socket_core.combined import combined_digest
from socket_core.config import UpdateType
from socket_core.errors import FederationError
from socket_core.exchange import Flat
from socket_core.packing import pack
from tests.server.builders import BAD_NODE, Bench, ChangingNodes, Kill, RecordingGrid, World, same_state, short_bench

FEW = {"method__name": "shot", "federation__rounds": 3}


def downs(grid: RecordingGrid, message_type: str, node: int) -> list[str]:
    """How the parameters came to a node, message by message."""
    asked = [m for m in grid.sent if (m.metadata.message_type, m.metadata.dst_node_id) == (message_type, node)]
    return [next(iter({"parameters", "change"} & set(array_record(m.content))), "held") for m in asked]


def test_parameters_come_once_a_round_and_never_where_they_are_held(world: World, tmp_path: Path) -> None:
    bench = short_bench(world, tmp_path, **FEW)
    grid = RecordingGrid(app, bench.contexts())
    state = bench.run(grid)
    assert downs(grid, TRAIN, 100) == ["held", "held", "held"]
    assert downs(grid, EVALUATE, 100) == ["parameters", "parameters", "parameters"]
    for record in bench.records():  # counted once, with the message that brought them
        assert 0 <= record["bytes_down"] - 3 * state.parameters.nbytes < 3 * 8_000
        assert 0 < record["evaluation_bytes"] < 3 * 8_000


def test_what_is_held_changes_no_bit(world: World, tmp_path: Path) -> None:
    """Sites that forget all they hold before each message get all parameters each time, and end in the same state."""
    bench = short_bench(world, tmp_path / "holding", **FEW)
    state = bench.run()
    other = short_bench(world, tmp_path / "forgetful", **FEW)

    def forget(message: Message, context: Any) -> Message:
        for path in other.home.glob(f"sites/*/jobs/*/{HELD}"):
            path.unlink()
        return app(message, context)

    grid = RecordingGrid(forget, other.contexts())
    assert same_state(other.run(grid), state)
    # What they answer to be held is asked again, with all of it; the first round begins with the release's.
    assert downs(grid, TRAIN, 100) == ["held", "held", "parameters", "held", "parameters"]
    assert [r["sites"] for r in other.records()] == [r["sites"] for r in bench.records()]
    assert [r["refused"] for r in other.records()] == [{}] * 3


@pytest.mark.parametrize("dtype", ["float16", "int8"])
def test_owner_and_sites_have_the_same_parameters_whatever_they_travel_in(
    world: World, tmp_path: Path, dtype: str
) -> None:
    changes: dict[str, Any] = FEW | {"federation__download_dtype": dtype}
    bench = short_bench(world, tmp_path / "steps", **changes)
    grid = RecordingGrid(app, bench.contexts())
    state = bench.run(grid)
    assert downs(grid, EVALUATE, 100) == ["change"] * 3
    assert downs(grid, TRAIN, 100) == ["held"] * 3
    for index in range(3):
        store = SiteStore(bench.home / "sites" / f"site-{index:02d}")
        assert store.held_digest(state.experiment) == sha256(state.parameters)
    assert state.unrounded is not None
    exact = short_bench(world, tmp_path / "whole", **FEW).run().parameters
    away = float(np.linalg.norm(state.parameters - exact))
    assert 0 < away < 0.2 * float(np.linalg.norm(exact - _start(bench)))
    assert bench.records()[1]["bytes_down"] < 3 * (exact.nbytes * (0.5 if dtype == "float16" else 0.25) + 8_000)


def _start(bench: Bench) -> Any:
    return init(bench.release.network(), bench.experiment, "x").parameters


def test_bytes_of_a_round_with_int8_both_ways_are_a_quarter_of_one_float32_copy_each_way(
    world: World, tmp_path: Path
) -> None:
    both: dict[str, Any] = {"federation__update_dtype": "int8", "federation__download_dtype": "int8"}
    bench = short_bench(world, tmp_path, **FEW, **both)
    state = bench.run()
    frame = 3 * 2 * 8_000  # the experiment as JSON, keys and shapes
    for record in bench.records()[1:]:
        total = record["bytes_up"] + record["bytes_down"]
        assert total - frame < 3 * 2 * state.parameters.nbytes / 4 < total


# --- rounding down


def states_of(before: Flat, after: Flat, round_: int = 1) -> tuple[ServerState, ServerState]:
    return ServerState("job", round_ - 1, before), ServerState("job", round_, after)


def states(change: Any, round_: int = 1) -> tuple[ServerState, ServerState]:
    before = np.linspace(-1, 1, 5, dtype=np.float32)
    return states_of(before, before + np.asarray(change, np.float32), round_)


SPECS = (("a", (2,)), ("b", (3,)))


@pytest.mark.parametrize("dtype", ["float16", "int8"])
def test_the_step_and_what_it_does_not_say_are_what_has_changed(tmp_path: Path, dtype: UpdateType) -> None:
    before, after = states([0.1, -0.02, 3.0, 1e-3, 0.5])
    aim = after.parameters.copy()
    state, later = round_in_place(before, after, SPECS, dtype, tmp_path)
    assert later is not None
    step = later.read()
    assert step.base_sha256 == sha256(before.parameters)
    assert step.change.values.dtype == dtype
    assert step.change.values.tobytes() == pack(aim - before.parameters, SPECS, dtype).values.tobytes()
    assert state.parameters.tobytes() == (before.parameters + step.change.floats()).tobytes()
    assert state.unrounded is not None
    assert state.unrounded.floats().tobytes() == aim.tobytes()
    assert state.parameters.tobytes() != aim.tobytes()


def test_what_rounding_takes_arrives_with_the_next_step(tmp_path: Path) -> None:
    before, after = states([100.0, 0.3, 0, 0, 0])
    aim = after.parameters.copy()
    state, _ = round_in_place(before, after, SPECS, "int8", tmp_path)
    assert state.parameters[1] == before.parameters[1], "too small for the scale"
    assert state.unrounded is not None
    quiet = ServerState("job", 2, state.unrounded.floats())
    state, _ = round_in_place(state, quiet, SPECS, "int8", tmp_path)
    np.testing.assert_allclose(state.parameters, aim, rtol=0, atol=2e-3)


def test_in_float32_and_in_rounds_of_the_translator_there_is_no_step(tmp_path: Path) -> None:
    before, after = states([1, 2, 3, 4, 5])
    assert round_in_place(before, after, SPECS, "float32", tmp_path) == (after, None)
    assert round_in_place(before, before, SPECS, "int8", tmp_path) == (before, None)
    assert list(tmp_path.iterdir()) == []


def test_one_file_lies_on_the_disk_whatever_an_earlier_run_has_left(tmp_path: Path) -> None:
    for name in ("round-00001.bin", "round-00002.bin", "round-00009.bin"):
        (tmp_path / name).write_bytes(b"of an interrupted run")
    for round_ in (1, 2):
        state, _ = round_in_place(*states([1, 2, 3, 4, 5], round_), SPECS, "int8", tmp_path)
        assert [path.name for path in tmp_path.iterdir()] == [f"round-{round_:05d}.bin"]
        assert state.unrounded is not None
        assert state.unrounded.floats().tolist() == states([1, 2, 3, 4, 5])[1].parameters.tolist()


@pytest.mark.parametrize(("dtype", "step"), [("float16", 0.5), ("int8", 0.25)])
def test_rounding_takes_the_step_and_two_tensors_beside_the_two_sets(
    tmp_path: Path, dtype: UpdateType, step: float
) -> None:
    """In copies of the parameters: no third set of them in float32, and no more for a network of many tensors."""
    tensors, size = 32, 1 << 16
    before, after = states_of(np.zeros(tensors * size, np.float32), np.ones(tensors * size, np.float32))
    specs = tuple((f"t{i}", (size,)) for i in range(tensors))
    tracemalloc.start()
    try:
        held = tracemalloc.get_traced_memory()[0]
        round_in_place(before, after, specs, dtype, tmp_path)
        peak = (tracemalloc.get_traced_memory()[1] - held) / after.parameters.nbytes
    finally:
        tracemalloc.stop()
    assert step < peak < step + 2.5 / tensors


def test_a_disk_that_takes_no_file_ends_the_round_with_its_name(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(FederationError, match=rf"(?s){tmp_path / 'file'}.*cannot be written.*make room"):
        round_in_place(*states([1, 2, 3, 4, 5]), SPECS, "int8", tmp_path / "file")


def test_the_sum_of_steps_is_the_sum_of_changes_to_half_a_scale(tmp_path: Path) -> None:
    rng, state, total = np.random.default_rng(0), states([0] * 5)[0], np.linspace(-1, 1, 5)
    for round_ in range(1, 8):
        change = rng.normal(0, 1, 5).astype(np.float32)
        total = total + change
        aim = (state.parameters if state.unrounded is None else state.unrounded.floats()) + change
        state, later = round_in_place(state, ServerState("job", round_, aim), SPECS, "int8", tmp_path)
        assert later is not None
        half = 0.5 * np.repeat(later.change.scales, (2, 3))
        assert (np.abs(state.parameters - total) <= half * 1.01 + 1e-5).all()


# --- sites that come late, forget, or meet a resumed owner

STEPS: dict[str, Any] = FEW | {"federation__download_dtype": "int8", "federation__update_dtype": "int8"}


def test_a_latecomer_gets_all_and_then_steps(world: World, tmp_path: Path) -> None:
    bench = short_bench(world, tmp_path, **STEPS, federation__evaluate_every=0)
    grid = ChangingNodes(bench.contexts(), lambda round_: [100, 101, 102] if round_ > 2 else [100, 101])
    bench.run(grid, observe=grid.observe)
    assert downs(grid, TRAIN, 100) == ["held", "change", "change"]
    assert downs(grid, TRAIN, 102) == ["parameters"]
    assert [len(r["sites"]) for r in bench.records()] == [2, 2, 3]


def test_parameters_for_a_latecomer_are_packed_when_the_step_for_the_others_has_gone(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench, done = short_bench(world, tmp_path, **STEPS, federation__evaluate_every=0), list[tuple[str, int]]()

    class Grid(ChangingNodes):
        def push_messages(self, messages: Iterable[Message]) -> list[str]:
            if (pushed := list(messages))[0].metadata.message_type == TRAIN:
                done.append(("sent", len(pushed)))
            return super().push_messages(pushed)

    def making(*arguments: Any, **settings: Any) -> RecordDict:
        done.append(("made", 1))
        return request_for(*arguments, **settings)

    monkeypatch.setattr(sending, "request_for", making)
    grid = Grid(bench.contexts(), lambda round_: [100, 101, 102] if round_ > 2 else [100, 101])
    bench.run(grid, observe=grid.observe)
    assert [what for what, _ in done] == ["made", "sent"] * 4 + ["made"]  # the last to evaluate
    assert [count for what, count in done if what == "sent"] == [2, 2, 2, 1]


def test_nothing_of_rounding_is_left_when_a_job_ends(world: World, tmp_path: Path) -> None:
    bench, seen = short_bench(world, tmp_path, **STEPS), list[bool]()
    state = bench.run(observe=lambda step, _facts: seen.append((bench.job_home / ROUNDING).exists()))
    assert any(seen)
    assert not (bench.job_home / ROUNDING).exists()
    assert state.unrounded is not None
    assert len(state.unrounded.floats()) == len(state.parameters)


def test_who_comes_for_the_second_round_holds_the_release_and_gets_the_step(world: World, tmp_path: Path) -> None:
    bench = short_bench(world, tmp_path, **STEPS, federation__evaluate_every=0)
    grid = ChangingNodes(bench.contexts(), lambda round_: [100, 101, 102] if round_ > 1 else [100, 101])
    bench.run(grid, observe=grid.observe)
    assert downs(grid, TRAIN, 102) == ["change", "change"]


def test_a_site_that_lost_what_it_held_is_asked_again_in_the_same_round(world: World, tmp_path: Path) -> None:
    reference = short_bench(world, tmp_path / "whole", **STEPS)
    expected = reference.run()
    bench = short_bench(world, tmp_path / "losing", **STEPS)

    def lose(step: str, facts: dict[str, Any]) -> None:
        if step == "round closed" and facts["round"] == 1:
            (path,) = bench.home.glob(f"sites/site-01/jobs/*/{HELD}")
            path.write_bytes(path.read_bytes()[:-9])

    grid = RecordingGrid(app, bench.contexts())
    assert same_state(bench.run(grid, observe=lose), expected)
    assert downs(grid, TRAIN, BAD_NODE) == ["held", "held", "parameters", "held"]
    assert [r["refused"] for r in bench.records()] == [{}] * 3
    more = [a["bytes_down"] - b["bytes_down"] for a, b in zip(bench.records(), reference.records(), strict=True)]
    assert more[0] == more[2] == 0
    assert more[1] > expected.parameters.nbytes


def _killing(step: str, round_: int) -> Observer:
    def observe(name: str, facts: dict[str, Any]) -> None:
        if name == step and facts.get("round") == round_:
            raise Kill

    return observe


@pytest.mark.parametrize("step", ["aggregated", "checkpoint saved", "evaluated", "round closed"])
def test_killed_and_resumed_it_ends_in_the_same_state_with_int8_both_ways(
    world: World, tmp_path: Path, step: str
) -> None:
    expected = short_bench(world, tmp_path / "whole", **STEPS).run()
    bench = short_bench(world, tmp_path / "broken", **STEPS)
    with pytest.raises(Kill):
        bench.run(observe=_killing(step, 2))
    assert same_state(bench.run(resume="yes"), expected)


def test_a_checkpoint_holds_what_rounding_took(world: World, tmp_path: Path) -> None:
    bench = short_bench(world, tmp_path, **STEPS)
    state = bench.run()
    identity = Identity(bench.experiment.digest(), combined_digest(bench.job().digests))
    found = load_newest(bench.job_home / "checkpoints", identity)
    assert found is not None
    assert found[0].unrounded is not None
    assert state.unrounded is not None
    assert found[0].unrounded.floats().tobytes() == state.unrounded.floats().tobytes()
