"""The federated loop: equality with centralised adaptation, reproducibility, and what travels."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import Context, Message, RecordDict

from client.app import app
from client.store import SiteStore
from server.app import app as server_app
from server.app import job_folder
from server.local_grid import LocalGrid
from server.state import ServerState
from socket_core.batchnorm import running_moments
from socket_core.data.catalogue import split_task
from socket_core.engine import Segment, adapt
from socket_core.exchange import batchnorm_specs, batchnorm_state, flatten, parameters_of, travelling_specs
from socket_core.release import pack_release
from tests.server.builders import Bench, ChangingGrid, RecordingGrid, World, lost, same_state

POLICIES = ("local", "source", "pooled")

# --- one site, one round


# AdaBN with frozen statistics is refused (test_method_refusals.py).
COMBINATIONS = [
    (method, policy)
    for method in ("socket", "shot", "adabn", "unadapted", "oracle")
    for policy in POLICIES
    if (method, policy) != ("adabn", "source")
]


@pytest.mark.parametrize(("method", "policy"), COMBINATIONS)
def test_one_site_and_one_round_equal_centralised_adaptation(
    world: World, tmp_path: Path, method: str, policy: str
) -> None:
    changes: dict[str, Any] = {
        "method__name": method,
        "federation__bn_policy": policy,
        "federation__sites": 1,
        "federation__rounds": 1,
        "federation__quorum": 1,
        "federation__steps": 3,
    }
    bench = Bench(world, tmp_path, sites=1, **changes)
    state = bench.run()

    share = split_task(world.task(), bench.experiment, 1)[0]
    network = bench.release.network()
    labels = share.tr_labels if method == "oracle" else None
    segment = Segment(site="site-00", round=1, steps=3, rounds=1, fresh=True)
    adapt(network, bench.release.network(), share.data, bench.experiment, segment, labels=labels)

    specs = travelling_specs(network, bench.experiment.federation.bn_policy)
    np.testing.assert_allclose(state.parameters, flatten(parameters_of(network), specs), rtol=0, atol=1e-6)
    if method in ("socket", "shot", "oracle"):
        before = flatten(parameters_of(bench.release.network()), specs)
        assert np.abs(state.parameters - before).max() > 1e-4, "the comparison must be of something that moved"
    if policy == "local":
        kept = SiteStore(bench.home / "sites" / "site-00").load_batchnorm(state.experiment, 1)
        assert kept is not None
        central = batchnorm_state(network)
        assert kept.keys() == central.keys()
        assert all(np.allclose(kept[k].numpy(), central[k].numpy(), rtol=0, atol=1e-6) for k in central)
    if policy == "pooled":
        assert state.batchnorm is not None
        bn = batchnorm_specs(network, "pooled")
        moments = running_moments(network, 1)
        mean = flatten({k: m.mean for k, m in moments.items()}, bn)
        var = flatten({k: m.var for k, m in moments.items()}, bn)
        np.testing.assert_allclose(state.batchnorm.mean, mean, rtol=0, atol=1e-6)
        np.testing.assert_allclose(state.batchnorm.var, var, rtol=0, atol=1e-6)


def test_a_method_without_gradient_steps_runs_one_round(world: World, tmp_path: Path) -> None:
    bench = Bench(world, tmp_path, method__name="adabn", federation__rounds=5)
    assert bench.run().round == 1


# --- the same again


class PermutedGrid(LocalGrid):
    """Hands replies over in another order each time, a few at a time."""

    def __init__(self, contexts: dict[int, Context], order: int) -> None:
        super().__init__(app, contexts)
        self._order = order

    def pull_messages(self, message_ids: Iterable[str]) -> list[Message]:
        ready = super().pull_messages(message_ids)
        return list(list(itertools.permutations(ready))[self._order % max(1, len(ready))])


@pytest.fixture(scope="module", params=["local", "pooled"])
def healthy(
    request: pytest.FixtureRequest, world: World, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, ServerState, list[dict[str, Any]]]:
    """Policy, end state and records of an undisturbed run of three sites."""
    bench = Bench(world, tmp_path_factory.mktemp("healthy"), federation__bn_policy=request.param)
    return request.param, bench.run(), bench.records()


def test_a_second_run_in_a_fresh_home_is_equal_to_the_bit(
    world: World, tmp_path: Path, healthy: tuple[str, ServerState, list[dict[str, Any]]]
) -> None:
    policy, state, records = healthy
    bench = Bench(world, tmp_path, federation__bn_policy=policy)
    assert same_state(bench.run(), state)
    assert bench.records() == records


def test_two_jobs_in_one_home_do_not_disturb_each_other(
    world: World, tmp_path: Path, healthy: tuple[str, ServerState, list[dict[str, Any]]]
) -> None:
    policy, state, _ = healthy
    bench = Bench(world, tmp_path, federation__bn_policy=policy)
    first, second = bench.run(), bench.run()
    assert first.experiment != second.experiment
    assert same_state(first, state)
    assert same_state(second, state)


@pytest.mark.parametrize("order", range(3))
def test_the_order_of_replies_does_not_matter(
    world: World, tmp_path: Path, healthy: tuple[str, ServerState, list[dict[str, Any]]], order: int
) -> None:
    policy, state, records = healthy
    bench = Bench(world, tmp_path, federation__bn_policy=policy)
    assert same_state(bench.run(PermutedGrid(bench.contexts(), order)), state)
    assert bench.records() == records


@pytest.mark.parametrize("nodes", [(7, 5, 6), (2**62, 3, 2**40)])
def test_node_ids_do_not_matter(
    world: World,
    tmp_path: Path,
    healthy: tuple[str, ServerState, list[dict[str, Any]]],
    nodes: tuple[int, ...],
) -> None:
    policy, state, records = healthy
    bench = Bench(world, tmp_path, federation__bn_policy=policy)
    assert same_state(bench.run(LocalGrid(app, bench.contexts(nodes))), state)
    assert bench.records() == records


def test_different_seeds_give_different_models(
    world: World, tmp_path: Path, healthy: tuple[str, ServerState, list[dict[str, Any]]]
) -> None:
    policy, state, _ = healthy
    bench = Bench(world, tmp_path, federation__bn_policy=policy, seed=1)
    assert not same_state(bench.run(), state)


# --- what travels


def test_the_release_travels_once_to_each_site_and_never_for_a_second_job(world: World, tmp_path: Path) -> None:
    bench = Bench(world, tmp_path, federation__rounds=3, federation__steps=1)
    size = sum(len(data) for data in pack_release(bench.release_folder).values())
    grid = RecordingGrid(app, bench.contexts())
    bench.run(grid)
    assert [r["release_bytes"] for r in bench.records()] == [3 * size, 0, 0]
    assert [m.metadata.message_type for m in grid.sent].count("query.release") == 3

    again = RecordingGrid(app, bench.contexts((5, 6, 7)))
    bench.run(again)
    assert [r["release_bytes"] for r in bench.records()] == [0, 0, 0]
    assert "query.release" not in {m.metadata.message_type for m in again.sent}


@pytest.mark.parametrize("name", ["weights.safetensors", "manifest.binpb", "manifest.sig"])
def test_a_truncated_release_in_the_cache_of_a_site_is_fetched_again(world: World, tmp_path: Path, name: str) -> None:
    bench = Bench(world, tmp_path, federation__rounds=1, federation__steps=1)
    first = bench.run()
    path = bench.home / "sites" / "site-01" / "releases" / bench.release.info.digest / name
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    grid = RecordingGrid(app, bench.contexts())
    assert same_state(bench.run(grid), first)
    assert [m.metadata.dst_node_id for m in grid.sent if m.metadata.message_type == "query.release"] == [101]
    assert path.read_bytes() == whole


def test_bytes_in_the_records_are_those_that_travelled(world: World, tmp_path: Path) -> None:
    bench = Bench(world, tmp_path, federation__rounds=1, federation__evaluate_every=0)
    grid = RecordingGrid(app, bench.contexts())
    bench.run(grid)
    [record] = bench.records()
    values = travelling_specs(bench.release.network(), "local")
    floats = 4 * sum(int(np.prod(shape)) for _, shape in values)
    for key in ("bytes_down", "bytes_up"):
        assert 3 * floats < record[key] < 3 * (floats + 8000)


def test_evaluation_happens_every_so_many_rounds_and_after_the_last(world: World, tmp_path: Path) -> None:
    bench = Bench(world, tmp_path, federation__rounds=3, federation__steps=1, federation__evaluate_every=2)
    bench.run()
    assert ["held_out" in r for r in bench.records()] == [False, True, True]


def test_evaluation_failing_at_a_site_leaves_the_others_counts(world: World, tmp_path: Path) -> None:
    bench = Bench(world, tmp_path, federation__rounds=1, federation__steps=1)
    reference = bench.run()
    assert same_state(bench.run(ChangingGrid(bench.contexts(), {101: lost}, types=("evaluate.round",))), reference)
    assert bench.records()[0]["held_out"]["by_site"].keys() == {"site-00", "site-02"}


# --- the app


def test_the_server_app_trains_a_release_once_and_resumes_on_request(world: World, tmp_path: Path) -> None:
    bench = Bench(world, tmp_path, federation__rounds=1, federation__steps=1)

    def run(**extra: str) -> None:
        context = Context(
            run_id=1, node_id=1, node_config={}, state=RecordDict(), run_config={**bench.run_config, **extra}
        )
        server_app(LocalGrid(app, bench.contexts()), context)

    run()
    folder = job_folder(bench.home, bench.experiment)
    lines = (folder / "rounds.jsonl").read_text()
    assert len(lines.splitlines()) == 1
    run(resume="yes")
    assert (folder / "rounds.jsonl").read_text() == lines
