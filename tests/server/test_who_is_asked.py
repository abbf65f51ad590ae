"""Evaluations go to sites that have something to answer with: deployed, each question is a process that is started."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from client.app import app
from client.journal import Journal
from protos.codec import ENROL, EVALUATE, decode, kind_of
from protos.wire_pb2 import Enrolment
from tests.client.builders import Deployment, write_images
from tests.server.builders import Bench, RecordingGrid, World

SHORT: dict[str, Any] = {
    "method__name": "shot",
    "federation__steps": 1,
    "federation__rounds": 1,
    "federation__bn_policy": "source",
    "federation__sites": 3,
}
POLICY: dict[str, Any] = {"bn_policies": ["source"]}
PROTECTED: dict[str, Any] = {"federation__weighting": "equal", "site_privacy": {"clip": 1.0, "sigma": 2.0}}


def deployed(world: World, folder: Path, classes: Any) -> dict[int, Deployment]:
    """A site without labels, one that keeps its counts, one that lets them leave, and a score by policy for two."""
    key = world.home / "keys" / "owner.pub.pem"
    test = folder / "test"
    for index, name in enumerate(classes[:2]):
        write_images(test / name, 2, "depth", seed=index)
    return {
        1: Deployment(folder / "bare", key, "bare", policy=POLICY | {"validation_scores": True}),
        2: Deployment(folder / "mute", key, "mute", seed=5, held_out=str(test), policy=POLICY),
        3: Deployment(
            folder / "open", key, "open", seed=9, held_out=str(test), policy=POLICY | {"held_out_counts": True}
        ),
    }


@pytest.mark.parametrize(
    ("changes", "asked"),
    [
        pytest.param({}, [3], id="counts"),
        pytest.param({"method__validator": "im"}, [1, 3], id="counts or a score"),
        pytest.param(PROTECTED, [], id="whole sites are protected"),
    ],
)
def test_who_has_nothing_to_answer_with_is_not_asked(
    world: World, tmp_path: Path, changes: dict[str, Any], asked: list[int]
) -> None:
    bench = Bench(world, tmp_path / "owner", **SHORT, **changes)
    sites = deployed(world, tmp_path, bench.release.info.classes)
    grid = RecordingGrid(app, {node: site.context(node) for node, site in sites.items()})
    bench.run(grid)
    assert [m.metadata.dst_node_id for m in grid.sent if m.metadata.message_type == EVALUATE] == asked
    (record,) = bench.records()
    assert record["sites"] == ["bare", "mute", "open"]
    assert set(record["held_out"].get("by_site", {})) == ({"open"} if 3 in asked else set())
    assert set(record["validation"].get("by_site", {})) == ({"bare"} if 1 in asked else set())
    assert (record["evaluation_bytes"] > 0) == bool(asked)


def test_what_a_site_says_of_it_is_journalled(world: World, tmp_path: Path) -> None:
    bench = Bench(world, tmp_path / "owner", **SHORT)
    sites = deployed(world, tmp_path, bench.release.info.classes)
    grid = RecordingGrid(app, {node: site.context(node) for node, site in sites.items()})
    bench.run(grid)
    said = {
        (answer.counts, answer.scores)
        for request, reply in zip(grid.sent, grid.received, strict=True)
        if request.metadata.message_type == ENROL and kind_of(reply.content) == "Enrolment"
        for answer in [decode(reply.content, Enrolment)]
    }
    assert said == {(False, True), (False, False), (True, False)}
    first = Journal(tmp_path / "open" / "home" / "egress.sqlite", create=False).read()[0]
    assert "counts" in {line["key"] for line in first["scalars"]}


def test_simulated_sites_are_all_asked(world: World, tmp_path: Path) -> None:
    bench = Bench(world, tmp_path, **SHORT)
    grid = RecordingGrid(app, bench.contexts())
    bench.run(grid)
    assert [m.metadata.dst_node_id for m in grid.sent if m.metadata.message_type == EVALUATE] == [100, 101, 102]
