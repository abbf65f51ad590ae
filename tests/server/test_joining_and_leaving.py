"""Sites that come and go between rounds, for good or for a while."""

from __future__ import annotations

import time
from pathlib import Path

from socket_core.release import pack_release
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
