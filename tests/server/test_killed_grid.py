"""A grid killed at a boundary of a cell, or between two steps of a federation, ends in the same results file."""

from __future__ import annotations

import itertools
import json
import shutil
from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import Any

import pytest

from server import cells, rounds
from server import compare as compare_module
from server.app import job_folder
from server.arms import Arm, ArmResult, run_arm
from server.cells import Cell
from server.compare import compare
from server.comparison_report import publish
from server.federate import LocalFederator
from server.grid import Axes, lines_of
from server.journal import Journal
from server.plan import Plan
from server.progress import Display
from server.rounds import Observer
from server.sources import SourceFiles
from tests.server.builders import Kill, World, experiment_with, stop_at

QUIET = Display(quiet=True)
MAY_DIFFER = {"seconds"}
"""Wall-clock times, of the whole and of each row."""


def one_by_one(
    jobs: Sequence[Cell], sources: SourceFiles, cache: Path, _workers: int, _log: Path, _on_part: object
) -> Generator[tuple[Cell, list[ArmResult]], None, None]:
    """Arms in this process: what is killed is the comparison."""
    for cell in jobs:
        places = range(cell.experiment.federation.sites) if cell.mode == "local" else [None]
        yield cell, [run_arm(Arm(cell.experiment, site, sources, cache)) for site in places]


@pytest.fixture(autouse=True)
def _in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compare_module, "run_arms", one_by_one)


def plan_in(world: World, folder: Path, *, seeds: tuple[int, ...] = (0,), **changes: Any) -> Plan:
    """Two partitions, one centralised result for both."""
    base = experiment_with(federation__sites=2, federation__steps=1, **changes)
    shutil.copytree(world.home, folder)
    grid = lines_of(base, ("adabn", "socket"), Axes(partitions=("iid", "dirichlet:5")))
    return Plan(base, ("adabn", "socket"), seeds, folder, world.cache, workers=1, grid=grid)


def results_of(plan: Plan) -> dict[str, Any]:
    """The results file without what may differ."""
    rows = compare(plan, LocalFederator(), QUIET)
    publish(plan, rows, QUIET, command="socket-owner compare", started=0.0)
    content = json.loads((plan.home / "results.json").read_text())
    for part in (content, *content["rows"]):
        assert part.keys() >= MAY_DIFFER
        for key in MAY_DIFFER:
            del part[key]
    return dict(content)


def until_it_ends(plan: Plan, prepare: Callable[[int], None]) -> tuple[dict[str, Any], int]:
    """Starts again after each kill; returns the results and how often it was killed."""
    for kills in itertools.count():
        prepare(kills)
        try:
            return results_of(plan), kills
        except Kill:
            assert not (plan.home / "results.json").exists()
    raise AssertionError("unreachable")


@pytest.fixture(scope="module")
def undisturbed(world: World, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compare_module, "run_arms", one_by_one)
        return results_of(plan_in(world, tmp_path_factory.mktemp("undisturbed") / "home"))


@pytest.mark.parametrize("when", ["before", "after"])
def test_killed_at_every_boundary_of_a_cell(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, undisturbed: dict[str, Any], when: str
) -> None:
    plan = plan_in(world, tmp_path / "home")
    kept: list[str] = []
    keep = cells.keep_row

    def killed(cell: Cell, home: Path, *rest: Any) -> None:
        name = cell.path(home).name
        if when == "before" and name not in kept:
            kept.append(name)
            raise Kill
        assert when == "before" or name not in kept, "a finished cell ran again"
        keep(cell, home, *rest)
        if when == "after":
            kept.append(name)
            raise Kill

    monkeypatch.setattr(compare_module, "keep_row", killed)
    found, kills = until_it_ends(plan, lambda _: None)
    # Of each method two local, two federated, one centralised for both partitions.
    assert kills == len(kept) == 2 * 5
    assert found == undisturbed


def test_killed_between_any_two_steps_of_a_federation(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, undisturbed: dict[str, Any]
) -> None:
    plan, run = plan_in(world, tmp_path / "home"), rounds.run
    kill: list[Observer] = []

    def killed(grid: Any, job: Any, observe: Observer) -> Any:
        def both(step: str, facts: dict[str, Any]) -> None:
            observe(step, facts)
            kill[-1](step, facts)

        return run(grid, job, both)

    monkeypatch.setattr(rounds, "run", killed)
    found, kills = until_it_ends(plan, lambda kills: kill.append(stop_at(kills)))
    assert kills > 10
    assert found == undisturbed


def test_a_federation_under_dp_that_was_killed_begins_anew(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rounds done again would cost twice, and the last of them would be refused."""
    base = experiment_with(federation__sites=2, federation__steps=1)
    shutil.copytree(world.home, tmp_path / "home")
    grid = lines_of(base, ("socket",), Axes(epsilons=(8.0,)))
    plan = Plan(base, ("socket",), (0,), tmp_path / "home", world.cache, 1, modes=("federated",), grid=grid)
    (experiment,) = [cell.experiment for cell in plan.cells(0)]
    run, journal = rounds.run, Journal(job_folder(plan.home, experiment) / "rounds.jsonl")

    def killed(grid: Any, job: Any, observe: Observer) -> Any:
        def in_round_two(step: str, facts: dict[str, Any]) -> None:
            observe(step, facts)
            if step == "replies screened" and journal.rounds() == 1:
                raise Kill

        return run(grid, job, in_round_two)

    with monkeypatch.context() as patch:
        patch.setattr(rounds, "run", killed)
        with pytest.raises(Kill):
            compare(plan, LocalFederator(), QUIET)
    (row,) = compare(plan, LocalFederator(), QUIET)
    assert (row.label, row.rounds, journal.rounds()) == ("socket, epsilon 8", 2, 2)
    assert row.epsilon is not None
    assert 7 < row.epsilon <= 8


def test_a_federation_that_ended_before_its_row_was_kept_is_not_run_again(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = plan_in(world, tmp_path / "home")
    before = compare(plan, LocalFederator(), QUIET)
    for path in plan.home.glob("cells/*-federated.json"):
        path.unlink()

    def no_work(*_: object) -> None:
        raise AssertionError("nothing should run again")

    monkeypatch.setattr(LocalFederator, "run", no_work)
    assert compare(plan, LocalFederator(), QUIET) == before
