"""TGMB + TGKT in a federation: a translator that is averaged, and one that never leaves its site."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import ArrayRecord, Message

from client import bridging
from client.app import app
from client.journal import Journal
from client.store import SiteStore
from protos.codec import EVALUATE, TRAIN, decode, encode, kind_of
from protos.wire_pb2 import REASON_MALFORMED, Refusal, RoundRequest, Update
from server.checkpoint import Identity, load_newest
from server.job import request_for
from server.local_grid import LocalGrid
from server.state import ServerState, init
from socket_core.data.catalogue import load_task, split_task
from socket_core.engine import Segment, adapt, adapt_alone, make_bridge
from socket_core.exchange import Spec, bridge_specs, flatten, length, parameters_of, travelling_specs
from tests.client.builders import Deployment
from tests.server.builders import (
    Bench,
    ChangingNodes,
    Kill,
    RecordingGrid,
    World,
    but_bytes,
    message_to,
    same_state,
    stop_at,
)

SMALL: dict[str, Any] = {
    "method__name": "tgkt",
    "method__trust": "always",
    "method__lr": 0.01,
    "federation__sites": 2,
    "federation__rounds": 3,
    "federation__steps": 1,
    "data__scenes__target_train": 16,
    "data__scenes__ti": 10,
}


def _changes(exchange: str, **translator: Any) -> dict[str, Any]:
    return {**SMALL, "method__translator": {"width": 8, "exchange": exchange, **translator}}


def _bench(world: World, folder: Path, exchange: str, sites: int = 2, **translator: Any) -> Bench:
    return Bench(world, folder, sites=sites, **_changes(exchange, **translator))


def _network_specs(bench: Bench) -> tuple[Spec, ...]:
    return travelling_specs(bench.release.network(), bench.experiment.federation.bn_policy)


def _bridge_specs(bench: Bench) -> tuple[Spec, ...]:
    bridge = make_bridge(bench.experiment, bench.release.network())
    assert bridge is not None
    return bridge_specs(bridge)


def _arrays(message: Message) -> dict[str, int]:
    record = message.content.array_records.get("arrays", ArrayRecord())
    return {name: array.shape[0] for name, array in record.items()}


def _of(messages: list[Message], kind: str) -> list[Message]:
    return [m for m in messages if m.metadata.message_type == kind]


def _updates(grid: RecordingGrid) -> list[tuple[Update, dict[str, int]]]:
    replies = [m for m in grid.received if m.has_content() and kind_of(m.content) == "Update"]
    return [(decode(m.content, Update), _arrays(m)) for m in replies]


# --- one site


@pytest.mark.parametrize("kind", ["unet", "paper", "replicate"])
@pytest.mark.parametrize("exchange", ["shared", "local"])
def test_one_site_equals_centralised_adaptation(world: World, tmp_path: Path, exchange: str, kind: str) -> None:
    changes = {
        **_changes(exchange, kind=kind),
        "federation__sites": 1,
        "federation__quorum": 1,
        "federation__rounds": 1 if kind == "replicate" else 2,  # one in stage 2: sending a change rounds it
        "federation__steps": 3,
    }
    bench = Bench(world, tmp_path, sites=1, **changes)
    state = bench.run()
    task = load_task(bench.experiment.data, cache=bench.cache)
    data = split_task(task, bench.experiment, 1)[0].data

    network, source = bench.release.network(), bench.release.network()
    adapt_alone(network, source, data, bench.experiment, "site-00")
    specs = _network_specs(bench)
    central = flatten(parameters_of(network), specs)
    np.testing.assert_allclose(state.parameters, central, rtol=0, atol=1e-6)
    before = flatten(parameters_of(bench.release.network()), specs)
    assert np.abs(state.parameters - before).max() > 1e-4, "the comparison must be of something that moved"
    assert (state.bridge is not None) == (exchange == "shared" and kind != "replicate")
    if state.bridge is not None:
        bridge = make_bridge(bench.experiment, source)
        assert bridge is not None
        segment = Segment("site-00", 1, 3, 1, fresh=False, stage="bridge")
        adapt(bench.release.network(), source, data, bench.experiment, segment, bridge=bridge)
        np.testing.assert_allclose(
            state.bridge, flatten(parameters_of(bridge), bridge_specs(bridge)), rtol=0, atol=1e-6
        )


# --- what travels


@pytest.fixture(scope="module", params=["shared", "local"])
def told(
    request: pytest.FixtureRequest, world: World, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, Bench, RecordingGrid, ServerState]:
    """How the translator is exchanged, and all that two sites and a server say in a run of three rounds."""
    bench = _bench(world, tmp_path_factory.mktemp("told"), request.param)
    grid = RecordingGrid(app, bench.contexts())
    return request.param, bench, grid, bench.run(grid)


def test_a_run_takes_the_rounds_of_its_stages(told: tuple[str, Bench, RecordingGrid, ServerState]) -> None:
    exchange, bench, _, state = told
    records = bench.records()
    stages = ["bridge", "adapt", "adapt"] if exchange == "shared" else ["adapt", "adapt"]
    assert [r["stage"] for r in records] == stages
    assert state.round == len(stages)
    assert ["held_out" in r for r in records] == [stage == "adapt" for stage in stages]
    assert all(r["sites"] == ["site-00", "site-01"] and r["refused"] == {} for r in records)


def test_requests_carry_what_the_stage_needs(told: tuple[str, Bench, RecordingGrid, ServerState]) -> None:
    exchange, bench, grid, _ = told
    bridge = length(_bridge_specs(bench))
    found = [_arrays(m) for m in _of(grid.sent, TRAIN)]
    if exchange == "shared":
        assert found == [{"bridge": bridge}] * 6
    else:
        assert found == [{}] * 4  # the release's, then those of the evaluation before


def test_no_translator_is_sent_for_inference(told: tuple[str, Bench, RecordingGrid, ServerState]) -> None:
    _, bench, grid, _ = told
    found = [_arrays(m) for m in _of(grid.sent, EVALUATE)]
    assert found == [{"parameters": length(_network_specs(bench))}] * 4


def test_updates_list_what_the_stage_trains(told: tuple[str, Bench, RecordingGrid, ServerState]) -> None:
    exchange, bench, grid, _ = told
    network, bridge = _network_specs(bench), _bridge_specs(bench)
    expected = [bridge] * 2 + [network] * 4 if exchange == "shared" else [network] * 4
    found = _updates(grid)
    assert [tuple((t.key, tuple(t.shape)) for t in update.tensors) for update, _ in found] == expected
    assert [arrays for _, arrays in found] == [{"delta": length(specs)} for specs in expected]


def test_the_journals_of_the_sites_name_the_same_arrays(told: tuple[str, Bench, RecordingGrid, ServerState]) -> None:
    exchange, bench, _, _ = told
    network, bridge = length(_network_specs(bench)), length(_bridge_specs(bench))
    assert network != bridge
    for site in ("site-00", "site-01"):
        lines = Journal(bench.home / "sites" / site / "egress.sqlite", create=False).read()
        arrays = [line["arrays"] for line in lines if line["kind"] == "Update"]
        assert all(a.keys() == {"delta"} for a in arrays)
        shapes = [a["delta"]["shape"] for a in arrays]
        assert shapes == ([[bridge]] if exchange == "shared" else []) + [[network]] * 2
        others = [line["arrays"] for line in lines if line["kind"] != "Update"]
        assert all(a == {} for a in others)


def test_bytes_in_the_records_are_those_of_the_stage(told: tuple[str, Bench, RecordingGrid, ServerState]) -> None:
    exchange, bench, _, _ = told
    network, bridge = 4 * length(_network_specs(bench)), 4 * length(_bridge_specs(bench))
    down = [bridge, network + bridge, network + bridge] if exchange == "shared" else [network] * 2
    up = [bridge, network, network] if exchange == "shared" else [network] * 2
    for record, sent, received in zip(bench.records(), down, up, strict=True):
        assert 2 * sent < record["bytes_down"] < 2 * (sent + 8000)
        assert 2 * received < record["bytes_up"] < 2 * (received + 8000)


def test_the_state_moves_in_its_stage_only(world: World, tmp_path: Path) -> None:
    bench = _bench(world, tmp_path, "shared")
    start = init(bench.release.network(), bench.experiment, "x")
    assert start.bridge is not None
    with pytest.raises(Kill):
        bench.run(observe=stop_at(9))  # the first round is closed
    found = load_newest(bench.job_home / "checkpoints", Identity(bench.experiment.digest(), bench.release.info.digest))
    assert found is not None
    first, last = found[0], bench.run(resume="yes")
    assert first.bridge is not None
    assert last.bridge is not None
    assert first.round == 1
    assert np.array_equal(first.parameters, start.parameters)
    assert not np.array_equal(first.bridge, start.bridge)
    assert np.array_equal(first.bridge, last.bridge)
    assert not np.array_equal(first.parameters, last.parameters)


# --- at the site


def test_a_local_translator_is_kept_at_each_site_and_trained_once(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained: list[str] = []

    def spy(*args: Any, **kwargs: Any) -> Any:
        trained.append(args[4].site)
        return adapt(*args, **kwargs)

    monkeypatch.setattr(bridging, "adapt", spy)
    bench = _bench(world, tmp_path, "local")
    with pytest.raises(Kill):
        bench.run(observe=stop_at(9))
    assert trained == ["site-00", "site-01"]
    files = sorted((bench.home / "sites").glob("*/jobs/*/translator.safetensors"))
    kept = [f.read_bytes() for f in files]
    assert len(kept) == 2
    assert kept[0] != kept[1]
    bench.run(resume="yes")
    assert trained == ["site-00", "site-01"]
    assert [f.read_bytes() for f in files] == kept


def test_a_shared_translator_is_not_kept_at_a_site(told: tuple[str, Bench, RecordingGrid, ServerState]) -> None:
    exchange, bench, _, state = told
    for site in ("site-00", "site-01"):
        kept = SiteStore(bench.home / "sites" / site).load_bridge(state.experiment)
        assert (kept is not None) == (exchange == "local")


def test_a_site_that_keeps_its_translator_refuses_to_share_it(world: World, tmp_path: Path) -> None:
    key = world.home / "keys" / "owner.pub.pem"
    changes = _changes("shared") | {"federation__sites": 3, "federation__rounds": 2}
    bench = Bench(world, tmp_path / "owner", **changes)
    sites = [
        Deployment(tmp_path / "a", key, "a", seed=1),
        Deployment(tmp_path / "b", key, "b", seed=2, policy={"translators": ["local"]}),
        Deployment(tmp_path / "c", key, "c", seed=3),
    ]
    bench.run(LocalGrid(app, {i + 1: d.context(i + 1) for i, d in enumerate(sites)}))
    assert [(r["sites"], r["refused"]) for r in bench.records()] == [(["a", "c"], {"b": "refused: policy"})] * 2

    own = Bench(world, tmp_path / "own", **{**changes, **_changes("local"), "federation__sites": 3})
    own.run(LocalGrid(app, {i + 1: d.context(i + 1) for i, d in enumerate(sites)}))
    assert [(r["sites"], r["refused"]) for r in own.records()] == [(["a", "b", "c"], {})] * 2


def test_nothing_can_be_evaluated_in_a_round_of_the_translator(
    told: tuple[str, Bench, RecordingGrid, ServerState],
) -> None:
    exchange, bench, _, state = told
    records = request_for(bench.job(), ServerState(state.experiment, 2, state.parameters), to_train=False)
    request = decode(records, RoundRequest)
    request.round = 1
    answer = app(message_to(encode(request), EVALUATE), bench.context(0, 100))
    if exchange == "shared":
        assert decode(answer.content, Refusal).reason == REASON_MALFORMED
    else:  # the first round of a local translator is one of the network, whose parameters the site holds
        assert kind_of(answer.content) == "Evaluation"


# --- killed, resumed, late


class Unbroken:
    """A run that nobody disturbed, and the home from which all others start."""

    def __init__(self, world: World, folder: Path, exchange: str) -> None:
        self.exchange, self.world = exchange, world
        warm = _bench(world, folder / "warm", exchange)
        with pytest.raises(Kill):
            warm.run(observe=stop_at(1))
        self.template = warm.home
        bench = self.bench(folder / "whole")
        self.steps: list[str] = []
        self.state = bench.run(observe=lambda step, _facts: self.steps.append(step))
        self.records = bench.records()

    def bench(self, folder: Path) -> Bench:
        """The same job in a home of its own."""
        return Bench(self.world, folder, sites=2, template=self.template, **_changes(self.exchange))


@pytest.fixture(scope="module", params=["shared", "local"])
def unbroken(request: pytest.FixtureRequest, world: World, tmp_path_factory: pytest.TempPathFactory) -> Unbroken:
    """The reference for all kills."""
    return Unbroken(world, tmp_path_factory.mktemp("unbroken"), request.param)


@pytest.mark.parametrize("index", [2, 3, 6, 7, 8, 9, 10, 12, 14, 15, 16, 17])
def test_killed_in_either_stage_and_resumed_it_ends_in_the_same_state(
    unbroken: Unbroken, tmp_path: Path, index: int
) -> None:
    assert unbroken.steps[2] == "round opened"
    assert unbroken.steps[9] == unbroken.steps[17] == "round closed"
    bench = unbroken.bench(tmp_path)
    with pytest.raises(Kill):
        bench.run(observe=stop_at(index))
    assert same_state(bench.run(resume="yes"), unbroken.state)
    assert but_bytes(bench.records()) == but_bytes(unbroken.records)


@pytest.mark.parametrize("exchange", ["shared", "local"])
def test_a_site_that_joins_after_the_translator_is_trained_takes_part(
    world: World, tmp_path: Path, exchange: str
) -> None:
    bench = Bench(world, tmp_path, sites=3, **_changes(exchange) | {"data__scenes__target_train": 24})
    last = 3 if exchange == "shared" else 2
    grid = ChangingNodes(bench.contexts(), lambda round_: [100, 101, 102] if round_ >= last else [100, 101])
    bench.run(grid, observe=grid.observe)
    records = bench.records()
    assert records[-1]["stage"] == "adapt"
    assert [len(r["sites"]) for r in records] == [2] * (last - 1) + [3]
    assert records[-1]["refused"] == {}
    assert records[-1]["held_out"]["by_site"].keys() == {"site-00", "site-01", "site-02"}
