"""Kill and resume: a run that dies anywhere ends in the same state as one that nobody disturbed."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from client.app import app
from protos.codec import TRAIN
from server import checkpoint, rounds
from server.job import parse_resume
from server.owner import train_and_release
from server.state import ServerState
from socket_core.errors import ConfigError, FederationError
from socket_core.release import read_release
from tests.server.builders import Bench, Kill, RecordingGrid, World, but_bytes, experiment_with, same_state, stop_at

ROUND = ("round opened", "reply", "reply", "replies screened", "aggregated", "checkpoint saved", "evaluated")
STEPS = ("nodes", "enrolled", *(ROUND + ("round closed",)) * 2)
"""All steps that a run of two rounds with two sites reports."""

SMALL: dict[str, Any] = {
    "federation__sites": 2,
    "federation__steps": 1,
    "data__scenes__target_train": 16,
    "data__scenes__ti": 10,
}


class Unbroken:
    """A run that nobody disturbed, and the home from which all others start: its sites hold the release."""

    def __init__(self, world: World, folder: Path, policy: str) -> None:
        self.changes = {**SMALL, "federation__bn_policy": policy}
        warm = Bench(world, folder / "warm", sites=2, **self.changes)
        with pytest.raises(Kill):
            warm.run(observe=stop_at(STEPS.index("enrolled")))
        self.world, self.template = world, warm.home
        bench = self.bench(folder / "whole")
        self.steps: list[str] = []
        self.state = bench.run(observe=lambda step, _facts: self.steps.append(step))
        self.records = bench.records()

    def bench(self, folder: Path) -> Bench:
        """The same job in a home of its own."""
        return Bench(self.world, folder, sites=2, template=self.template, **self.changes)


@pytest.fixture(scope="module", params=["local", "pooled"])
def unbroken(request: pytest.FixtureRequest, world: World, tmp_path_factory: pytest.TempPathFactory) -> Unbroken:
    """The reference for all kills."""
    return Unbroken(world, tmp_path_factory.mktemp("unbroken"), request.param)


def test_an_unbroken_run_reports_the_steps_at_which_it_is_killed_below(unbroken: Unbroken) -> None:
    assert tuple(unbroken.steps) == STEPS
    assert [r["round"] for r in unbroken.records] == [1, 2]
    assert all(r["held_out"]["by_site"].keys() == {"site-00", "site-01"} for r in unbroken.records)
    assert (unbroken.state.batchnorm is not None) == (unbroken.changes["federation__bn_policy"] == "pooled")


@pytest.mark.parametrize("index", range(len(STEPS)), ids=[f"{i:02d} {s}" for i, s in enumerate(STEPS)])
def test_killed_after_any_step_and_resumed_it_ends_in_the_same_state(
    unbroken: Unbroken, tmp_path: Path, index: int
) -> None:
    bench = unbroken.bench(tmp_path)
    with pytest.raises(Kill):
        bench.run(observe=stop_at(index))
    assert same_state(bench.run(resume="yes"), unbroken.state)
    assert but_bytes(bench.records()) == but_bytes(unbroken.records)


def _kill_on_call(monkeypatch: pytest.MonkeyPatch, target: object, name: str, call: int) -> None:
    real: Callable[..., Any] = getattr(target, name)
    numbers = itertools.count(1)

    def dying(*args: Any, **kwargs: Any) -> Any:
        if next(numbers) == call:
            raise Kill
        return real(*args, **kwargs)

    monkeypatch.setattr(target, name, dying)


@pytest.mark.parametrize("round_", [1, 2])
@pytest.mark.parametrize(
    ("target", "name", "call"),
    [
        pytest.param(os, "fsync", 1, id="before the temporary file is synced"),
        pytest.param(Path, "replace", 1, id="before the rename"),
        pytest.param(os, "fsync", 2, id="before the folder is synced"),
    ],
)
def test_killed_inside_a_checkpoint_and_resumed_it_ends_in_the_same_state(
    unbroken: Unbroken,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    round_: int,
    target: object,
    name: str,
    call: int,
) -> None:
    bench = unbroken.bench(tmp_path)
    real = checkpoint.save_checkpoint

    def save(folder: Path, state: ServerState, *rest: Any) -> ServerState:
        if state.round == round_:
            _kill_on_call(monkeypatch, target, name, call)
        return real(folder, state, *rest)

    monkeypatch.setattr(rounds, "save_checkpoint", save)
    with pytest.raises(Kill):
        bench.run()
    monkeypatch.undo()
    assert same_state(bench.run(resume="yes"), unbroken.state)
    assert but_bytes(bench.records()) == but_bytes(unbroken.records)


def test_killed_again_and_again_it_ends_in_the_same_state(unbroken: Unbroken, tmp_path: Path) -> None:
    bench = unbroken.bench(tmp_path)
    for index in (6, 7, 5, 7, 1):
        with pytest.raises(Kill):
            bench.run(resume="yes", observe=stop_at(index))
    assert same_state(bench.run(resume="yes"), unbroken.state)
    assert but_bytes(bench.records()) == but_bytes(unbroken.records)


def test_killed_while_the_journal_was_half_written_it_mends_the_last_line(unbroken: Unbroken, tmp_path: Path) -> None:
    bench = unbroken.bench(tmp_path)
    with pytest.raises(Kill):
        bench.run(observe=stop_at(STEPS.index("round closed")))
    journal = bench.job_home / "rounds.jsonl"
    journal.write_bytes(journal.read_bytes()[:-20])
    assert same_state(bench.run(resume="yes"), unbroken.state)
    assert but_bytes(bench.records()) == but_bytes(unbroken.records)


def test_resuming_a_finished_run_trains_nothing_and_changes_nothing(unbroken: Unbroken, tmp_path: Path) -> None:
    bench = unbroken.bench(tmp_path)
    bench.run()
    grid = RecordingGrid(app, bench.contexts())
    assert same_state(bench.run(grid, resume="yes"), unbroken.state)
    assert but_bytes(bench.records()) == but_bytes(unbroken.records)
    assert TRAIN not in {m.metadata.message_type for m in grid.sent}


def test_resume_without_a_checkpoint_starts_from_the_source(unbroken: Unbroken, tmp_path: Path) -> None:
    bench = unbroken.bench(tmp_path)
    assert same_state(bench.run(resume="yes"), unbroken.state)


def test_killed_during_the_first_enrolment_the_sites_keep_the_release(world: World, tmp_path: Path) -> None:
    bench = Bench(world, tmp_path)
    with pytest.raises(Kill):
        bench.run(observe=stop_at(1))
    grid = RecordingGrid(app, bench.contexts())
    bench.run(grid, resume="yes")
    assert "query.release" not in {m.metadata.message_type for m in grid.sent}


# --- what lies in the folder already


def test_an_unfinished_run_is_not_thrown_away(unbroken: Unbroken, tmp_path: Path) -> None:
    bench = unbroken.bench(tmp_path)
    with pytest.raises(Kill):
        bench.run(observe=stop_at(STEPS.index("round closed")))
    before = (bench.job_home / "checkpoints" / "round-00001.safetensors").read_bytes()
    with pytest.raises(FederationError, match='unfinished run.*\\n.*resume="yes"'):
        bench.run()
    assert (bench.job_home / "checkpoints" / "round-00001.safetensors").read_bytes() == before


def test_a_finished_run_is_replaced_by_a_new_one(unbroken: Unbroken, tmp_path: Path) -> None:
    bench = unbroken.bench(tmp_path)
    bench.run()
    assert same_state(bench.run(), unbroken.state)
    assert but_bytes(bench.records()) == but_bytes(unbroken.records)


@pytest.mark.parametrize("key", ["seed", "federation__rounds"])
def test_a_checkpoint_of_another_experiment_is_refused_and_named(unbroken: Unbroken, tmp_path: Path, key: str) -> None:
    bench = unbroken.bench(tmp_path)
    with pytest.raises(Kill):
        bench.run(observe=stop_at(STEPS.index("round closed")))
    other = Bench(unbroken.world, tmp_path / "other", sites=2, template=bench.home, **{**unbroken.changes, key: 3})
    with pytest.raises(FederationError, match=r"round-00001.*another experiment"):
        other.run(resume="yes")


def test_a_checkpoint_of_another_release_is_refused_and_named(unbroken: Unbroken, tmp_path: Path) -> None:
    bench = unbroken.bench(tmp_path)
    with pytest.raises(Kill):
        bench.run(observe=stop_at(STEPS.index("round closed")))
    other = experiment_with(source__lr=0.2)
    train_and_release(other, unbroken.world.task(), bench.home, confirm_batchnorm=True)
    bench.release = read_release(bench.release_folder, bench.owner_key)
    with pytest.raises(FederationError, match=r"round-00001.*another release"):
        bench.run(resume="yes")


@pytest.mark.parametrize("keep", [0, 7, 100, -1], ids=["empty", "header cut", "some bytes", "last byte missing"])
def test_a_truncated_checkpoint_is_named_and_without_it_the_one_before_serves(
    unbroken: Unbroken, tmp_path: Path, keep: int
) -> None:
    bench = unbroken.bench(tmp_path)
    bench.run()
    path = bench.job_home / "checkpoints" / "round-00002.safetensors"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(FederationError, match=r"(?s)round-00002\.safetensors.*remove this file"):
        bench.run(resume="yes")
    path.unlink()
    assert same_state(bench.run(resume="yes"), unbroken.state)
    assert but_bytes(bench.records()) == but_bytes(unbroken.records)


def test_resume_auto_goes_on_where_it_can(unbroken: Unbroken, tmp_path: Path) -> None:
    bench = unbroken.bench(tmp_path)
    with pytest.raises(Kill):
        bench.run(resume="auto", observe=stop_at(STEPS.index("round closed")))
    steps: list[str] = []
    assert same_state(bench.run(resume="auto", observe=lambda step, _facts: steps.append(step)), unbroken.state)
    assert steps.count("round opened") == 1
    assert but_bytes(bench.records()) == but_bytes(unbroken.records)


def test_resume_auto_starts_anew_over_a_checkpoint_of_another_experiment(unbroken: Unbroken, tmp_path: Path) -> None:
    bench = unbroken.bench(tmp_path)
    bench.run()
    changes = {**unbroken.changes, "method__lr": 0.01}
    other = Bench(unbroken.world, tmp_path / "other", sites=2, template=bench.home, **changes)
    assert not same_state(other.run(resume="auto"), unbroken.state)
    assert [r["round"] for r in other.records()] == [1, 2]


@pytest.mark.parametrize("text", ["", "true", "True", "YES"])
def test_other_words_for_resume_are_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="no, yes or auto"):
        parse_resume(text)
