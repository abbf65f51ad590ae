"""Sites that come and go between rounds, for good or for a while."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from flwr.app import Context, Message

from client.app import app
from protos.codec import refusal
from protos.wire_pb2 import REASON_RELEASE
from server.local_grid import LocalGrid
from socket_core.release import WEIGHTS, pack_release
from tests.server.builders import ChangingNodes, World, short_bench


def test_a_site_that_joins_later_gets_the_release_then_and_takes_part(world: World, tmp_path: Path) -> None:
    bench = short_bench(world, tmp_path, federation__sites=2, federation__rounds=3)
    size = sum(len(data) for data in pack_release(bench.release_folder).values())
    grid = ChangingNodes(bench.contexts(), lambda round_: [100, 101, 102] if round_ > 1 else [100, 101])
    bench.run(grid, observe=grid.observe)
    records = bench.records()
    assert [r["sites"] for r in records] == [
        ["site-00", "site-01"],
        ["site-00", "site-01", "site-02"],
        ["site-00", "site-01", "site-02"],
    ]
    assert [r["release_bytes"] for r in records] == [2 * size, size, 0]
    assert [m.metadata.dst_node_id for m in grid.sent if m.metadata.message_type == "query.release"] == [100, 101, 102]


def test_a_site_that_leaves_for_good_is_not_waited_for(world: World, tmp_path: Path) -> None:
    bench = short_bench(world, tmp_path, federation__rounds=3, federation__deadline_seconds=60.0)
    grid = ChangingNodes(bench.contexts(), lambda round_: [100, 102] if round_ > 1 else [100, 101, 102])
    started = time.monotonic()
    bench.run(grid, observe=grid.observe)
    assert time.monotonic() - started < 30
    records = bench.records()
    assert [r["sites"] for r in records] == [["site-00", "site-01", "site-02"], *[["site-00", "site-02"]] * 2]
    assert [r["absent"] for r in records] == [[], ["site-01"], ["site-01"]]


def test_a_site_that_was_away_for_a_round_goes_on_from_its_own_batchnorm(world: World, tmp_path: Path) -> None:
    bench = short_bench(world, tmp_path, federation__rounds=3)
    grid = ChangingNodes(bench.contexts(), lambda round_: [100, 102] if round_ == 2 else [100, 101, 102])
    bench.run(grid, observe=grid.observe)
    assert [len(r["sites"]) for r in bench.records()] == [3, 2, 3]


def test_a_site_whose_kept_release_was_damaged_gets_it_again(world: World, tmp_path: Path) -> None:
    bench = short_bench(world, tmp_path, federation__rounds=3)
    size = sum(len(data) for data in pack_release(bench.release_folder).values())

    def damage(step: str, facts: dict[str, Any]) -> None:
        if step == "round closed" and facts["round"] == 1:
            [weights] = (bench.home / "sites" / "site-01" / "releases").glob(f"*/{WEIGHTS}")
            weights.write_bytes(weights.read_bytes()[:1000])

    bench.run(observe=damage)
    records = bench.records()
    assert [r["refused"] for r in records] == [{}, {"site-01": "refused: release"}, {}]
    assert [r["release_bytes"] for r in records] == [3 * size, 0, size]
    assert [len(r["sites"]) for r in records] == [3, 2, 3]
    assert [r["absent"] for r in records] == [[], [], []]


def test_who_does_not_take_the_release_is_named_with_its_reason(world: World, tmp_path: Path) -> None:
    def stranger(message: Message, context: Context) -> Message:
        if context.node_id == 101 and message.metadata.message_type == "query.release":
            return Message(refusal("site-01", REASON_RELEASE), reply_to=message)
        return app(message, context)

    bench = short_bench(world, tmp_path)
    bench.run(LocalGrid(stranger, bench.contexts()))
    assert [r["declined"] for r in bench.records()] == [{"site-01": "release"}] * 2
    assert [r["sites"] for r in bench.records()] == [["site-00", "site-02"]] * 2
