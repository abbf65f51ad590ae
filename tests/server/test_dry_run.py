"""What a comparison would take, said before it runs: to the byte where that can be known, and nothing is written."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from server import capacity, time_cost, work
from server import compare as compare_module
from server.capacity import MIB, free_memory, memory_of_worker, workers_for
from server.cells import Cell
from server.cli import app
from server.compare import compare
from server.dry_run import describe, look
from server.federate import LocalFederator
from server.grid import Axes, lines_of
from server.journal import Journal
from server.plan import Plan, cores
from server.progress import Display
from server.wire_cost import travel
from tests.server.builders import Bench, World, experiment_with, raw_with, tree
from tests.server.rows import row
from tests.server.test_killed_grid import one_by_one


@pytest.mark.parametrize(
    "changes",
    [
        {"federation__partition": "dirichlet:0.5"},
        {"federation__bn_policy": "pooled", "federation__update_dtype": "float16"},
        {"federation__bn_policy": "source", "method__name": "shot"},
        {"method__name": "tgkt", "federation__rounds": 3, "method__translator": {"width": 8, "rounds": 2}},
        {"method__name": "tgkt", "method__translator": {"width": 8, "exchange": "local"}},
        {"method__name": "adabn"},
        {"federation__update_dtype": "int8", "federation__download_dtype": "int8"},
        {"federation__rounds": 3, "federation__evaluate_every": 2, "federation__download_dtype": "float16"},
    ],
)
def test_bytes_are_those_of_the_run_to_the_byte(world: World, tmp_path: Path, changes: dict[str, Any]) -> None:
    bench = Bench(world, tmp_path, federation__steps=1, **changes)
    bench.run()
    records = Journal(bench.job_home / "rounds.jsonl").read()
    found = travel(bench.experiment)
    assert found.up == sum(r["bytes_up"] for r in records)
    assert found.down == sum(r["bytes_down"] for r in records)
    # The manifest with its signature is left out: it names a time.
    assert 0.98 * sum(r["release_bytes"] for r in records) < found.release < sum(r["release_bytes"] for r in records)


def plan_in(home: Path, cache: Path) -> Plan:
    base = experiment_with(federation__steps=1, federation__sites=2)
    grid = lines_of(base, ("unadapted", "socket"), Axes((3.0, None), partitions=("iid", "dirichlet:5")))
    return Plan(base, ("unadapted", "socket"), (0, 1), home, cache, workers=2, grid=grid)


def test_before_a_first_run_everything_is_to_run_and_nothing_is_written(tmp_path: Path) -> None:
    found = look(plan_in(tmp_path / "home", tmp_path / "cache"), flower=False)
    assert list(tmp_path.iterdir()) == []
    # A seed has an unadapted row, and of socket four lines in three modes, two centralised of which are shared.
    assert found.plain()["counts"] == {"to run": 2 * 11, "shared": 2 * 2, "kept": 0}
    assert [Path(folder).name for folder in found.train] == ["release-seed0", "release-seed1"]
    private = [cell for cell in found.cells if cell.epsilon is not None]
    assert {cell.label.split(", ")[1] for cell in private} == {"epsilon 3"}
    assert all(cell.epsilon is not None and 2.8 < cell.epsilon <= 3.0 for cell in private)
    assert found.time.low < found.time.seconds < found.time.high
    assert "not a run" in found.time.basis
    assert found.travel.up == sum(cell.travel.up for cell in found.cells if cell.travel is not None) > 0


def test_what_is_there_is_kept_and_tells_the_time(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compare_module, "run_arms", one_by_one)
    home = tmp_path / "home"
    shutil.copytree(world.home, home)
    base = experiment_with(federation__steps=1, federation__sites=2)
    plan = Plan(base, ("unadapted", "shot"), (0,), home, world.cache, workers=1)
    compare(plan, LocalFederator(), Display(quiet=True))
    before = tree(home)
    found = look(plan, flower=False)
    assert tree(home) == before
    assert found.plain()["counts"] == {"to run": 0, "shared": 0, "kept": 4}
    assert (found.time.seconds, found.train, found.travel.up) == (0.0, (), 0)
    wider = Plan(base, ("unadapted", "shot", "socket"), (0,), home, world.cache, workers=1)
    more = look(wider, flower=False)
    assert more.plain()["counts"] == {"to run": 3, "shared": 0, "kept": 4}
    assert more.time.basis == "4 results of this comparison, finished before"
    # Another release: nothing of this seed can be kept.
    shutil.rmtree(home / "release-seed0")
    assert look(plan, flower=False).plain()["counts"]["kept"] == 0


def test_time_is_work_by_the_speed_of_finished_rows_shared_out_to_processes() -> None:
    plan = Plan(experiment_with(), ("shot", "socket"), (0,), Path("h"), Path("c"), workers=2)
    jobs = {(cell.experiment.method.name, cell.mode): cell for cell in plan.cells(0)}
    done, open_ = jobs["shot", "centralised"], jobs["socket", "centralised"]
    kept = {done: row("shot", "centralised", seconds=10.0)}
    found = time_cost.estimate(plan, [open_], [], kept, flower=False, start=3.0)
    ratio = work.of_cell(open_).work / work.of_cell(done).work
    assert found.seconds == pytest.approx(10.0 * ratio / 2 + 2 * 3.0)
    alone = {jobs["shot", "local"]: row("shot", "local", seconds=10.0)}  # the slowest of three sites
    ratio = work.of_cell(open_).work / work.of_cell(jobs["shot", "local"]).work
    found = time_cost.estimate(plan, [open_], [], alone, flower=False, start=0.0)
    assert found.seconds == pytest.approx(3 * 10.0 * ratio / 2)


def test_training_visits_are_those_of_the_engine(finished_visits: dict[str, int]) -> None:
    assert finished_visits == {"shot": 3 * 2 * 2 * 4, "socket": 3 * 2 * 2 * 8, "adabn": 0, "unadapted": 0}


@pytest.fixture
def finished_visits() -> dict[str, int]:
    plan = Plan(experiment_with(), ("unadapted", "adabn", "shot", "socket"), (0,), Path("h"), Path("c"))
    return {c.experiment.method.name: int(work.training(Cell(c.experiment, c.mode))) for c in plan.cells(0)}


def test_processes_are_as_many_as_memory_has_room_for_and_one_at_least() -> None:
    each = memory_of_worker(experiment_with())
    assert each > capacity.PROCESS
    assert workers_for(experiment_with(), available=10**15) == cores()
    assert workers_for(experiment_with(), available=capacity.RESERVE + each + 1) == 1
    assert workers_for(experiment_with(), available=0) == 1


@pytest.mark.parametrize(("limit", "expected"), [("max", None), (str(300 * MIB), 200 * MIB), (str(50 * MIB), 0)])
def test_a_containers_limit_counts_where_it_is_lower(tmp_path: Path, limit: str, expected: int | None) -> None:
    (tmp_path / "memory.max").write_text(f"{limit}\n")
    (tmp_path / "memory.current").write_text(f"{100 * MIB}\n")
    found = free_memory(tmp_path)
    assert found is not None
    assert found > 0 if expected is None else found == expected


def test_the_command_prints_the_plan_for_people_and_as_json(tmp_path: Path) -> None:
    config = tmp_path / "e.yaml"
    config.write_text(yaml.safe_dump(raw_with()))
    command = ["compare", "--config", str(config), "--out", str(tmp_path / "home"), "--in-process", "--dry-run"]
    command += ["--methods", "shot", "--sites", "2,3", "--seeds", "2"]
    said = CliRunner().invoke(app, command)
    assert said.exit_code == 0, said.output
    assert "shot, 3 sites  federated    2 to run" in said.stdout
    assert f"{tmp_path / 'home' / 'results.json'}" in said.stdout
    asked = CliRunner().invoke(app, [*command, "--json"])
    plain = json.loads(asked.stdout)
    assert plain["dry_run"] is True
    assert plain["counts"]["to run"] == 2 * 2 * 3
    assert {cell["label"] for cell in plain["cells"]} == {"shot, 2 sites", "shot, 3 sites"}
    assert [path.name for path in tmp_path.iterdir()] == ["e.yaml"]


def test_a_plan_that_is_refused_is_refused_at_once(tmp_path: Path) -> None:
    base = experiment_with()
    grid = lines_of(base, ("shot",), Axes(sites=(2, 3)))
    variants = (experiment_with(name="small-2-sites"),)
    plan = Plan(base, ("shot",), (0,), tmp_path, tmp_path, grid=grid, variants=variants)
    with pytest.raises(Exception, match="name of a point of the grid"):
        look(plan, flower=False)


def test_lines_say_all_that_is_asked_for(tmp_path: Path) -> None:
    text = "\n".join(describe(look(plan_in(tmp_path / "home", tmp_path / "cache"), flower=True)))
    for word in ("time    about", "bytes   ", "memory  about", "epsilon record-level", "would be written:"):
        assert word in text
    assert "flower-run.log" in text
