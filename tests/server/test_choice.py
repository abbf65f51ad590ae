"""Which round a federation ends with, chosen by a label-free score."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from client.app import app
from protos.codec import EVALUATE, TRAIN, decode
from protos.wire_pb2 import RoundRequest
from server.choice import best_round, is_over, mean_score
from socket_core.validators import VALIDATORS
from tests.server.builders import Bench, Kill, RecordingGrid, World

SITES = 2
CHANGES: dict[str, Any] = {
    "federation__sites": SITES,
    "federation__steps": 1,
    "federation__rounds": 6,
    "federation__patience": 2,
    "method__validator": "im",
    "data__scenes__target_train": 16,
    "data__scenes__ti": 10,
}


def scored(*values: float | None) -> list[dict[str, Any]]:
    return [{"round": i, "validation": {} if v is None else {"mean": v}} for i, v in enumerate(values, start=1)]


def test_the_first_of_the_best_rounds_counts() -> None:
    assert best_round(scored(None, 0.1, 0.5, 0.5, 0.2)) == 3
    assert best_round(scored(None, None)) is None
    assert best_round([]) is None


@pytest.mark.parametrize(
    ("values", "patience", "over"),
    [
        ((0.3, 0.2), 1, True),
        ((0.3, 0.2), 2, False),
        ((0.3, 0.2, 0.1), 2, True),
        ((0.1, 0.2), 1, False),
        ((0.3, 0.2), 0, False),
    ],
)
def test_patience_counts_rounds_without_a_better_score(values: tuple[float, ...], patience: int, over: bool) -> None:
    assert is_over(scored(*values), patience) is over


def test_sites_count_alike_and_silence_is_no_score() -> None:
    assert mean_score({"b": 1.0, "a": 0.0}) == {"mean": 0.5, "by_site": {"b": 1.0, "a": 0.0}}
    assert mean_score({}) == {}
    assert not is_over(scored(None, None, None), 1)


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> Callable[[dict[int, float]], None]:
    """Scores by round in place of a validator: what a validator likes is tested elsewhere."""

    def play(by_parameters: dict[int, float]) -> None:
        calls = iter(range(10_000))
        monkeypatch.setitem(VALIDATORS, "im", lambda _logits: by_parameters[1 + next(calls) // SITES])

    return play


def test_the_best_round_is_the_result_and_patience_ends_the_run(
    world: World, tmp_path: Path, scripted: Callable[[dict[int, float]], None]
) -> None:
    bench = Bench(world, tmp_path, sites=SITES, **CHANGES)
    grid = RecordingGrid(app, bench.contexts())
    scripted({1: 0.2, 2: 0.9, 3: 0.1, 4: 0.3})
    state = bench.run(grid)
    assert [r["round"] for r in bench.records()] == [1, 2, 3, 4]
    assert state.round == 2
    shown = [m.content for m in grid.sent if m.metadata.message_type == EVALUATE]
    of_two = next(c for c in shown if decode(c, RoundRequest).round == 2)
    sent = of_two.array_records["arrays"]["parameters"].numpy()
    np.testing.assert_array_equal(state.parameters, sent)
    asked = [decode(m.content, RoundRequest) for m in grid.sent if m.metadata.message_type == TRAIN]
    assert {(a.round, a.keep_round) for a in asked} == {(1, 0), (2, 1), (3, 2), (4, 2)}


@pytest.mark.parametrize("step", ["checkpoint saved", "evaluated", "round closed"])
def test_killed_in_its_best_round_and_resumed_a_run_ends_with_it(world: World, tmp_path: Path, step: str) -> None:
    whole = Bench(world, tmp_path / "whole", sites=SITES, **CHANGES)
    state = whole.run()
    best = state.round

    def kill(name: str, _facts: dict[str, Any]) -> None:
        if name == step and len(broken.records() if (broken.job_home / "rounds.jsonl").exists() else []) >= best - 1:
            raise Kill

    broken = Bench(world, tmp_path / "broken", sites=SITES, **CHANGES)
    with pytest.raises(Kill):
        broken.run(observe=kill)
    resumed = broken.run(resume="yes")
    assert resumed.round == best
    np.testing.assert_array_equal(resumed.parameters, state.parameters)
    assert [r["validation"] for r in broken.records()] == [r["validation"] for r in whole.records()]


def test_without_a_score_the_last_round_counts(world: World, tmp_path: Path) -> None:
    bench = Bench(world, tmp_path, sites=SITES, **{**CHANGES, "method__validator": "none", "federation__rounds": 3})
    assert bench.run().round == 3
    assert all(not r["validation"] for r in bench.records())
    assert not (bench.job_home / "checkpoints" / "best.safetensors").exists()
