"""The lines of a grid: what they are called, what each runs, and which share a result."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from server.arms import with_steps
from server.cells import Cell, cell_epsilon
from server.grid import Axes, Line, check_names, common, lines_of
from server.plan import Plan, job_of
from server.work import training
from socket_core.config import Experiment, MethodName
from socket_core.errors import ConfigError
from tests.server.builders import experiment_with

FULL = Axes((1.0, None), (2, 3), ("iid", "dirichlet:0.5"))
PRIVACY = {"epsilon": 3.0, "sample_rate": 0.5, "expected_batch": 6, "every": 2}


def lines(axes: Axes, *methods: MethodName, **changes: Any) -> dict[str, Line]:
    return {line.label: line for line in lines_of(experiment_with(**changes), methods, axes)}


def plan_of(axes: Axes, *methods: MethodName, base: Experiment | None = None) -> Plan:
    base = base or experiment_with()
    return Plan(common(base, axes), methods, (0,), Path("home"), Path("cache"), 1, grid=lines_of(base, methods, axes))


def test_labels_name_the_axes_that_were_given_and_apply() -> None:
    found = lines(FULL, "unadapted", "shot", "socket", "oracle")
    assert list(found) == [
        "unadapted",
        *(f"shot, {n} sites, {p}" for n in (2, 3) for p in FULL.partitions),
        *(f"socket, {e}, {n} sites, {p}" for e in ("epsilon 1", "without DP") for n in (2, 3) for p in FULL.partitions),
        "oracle, 2 sites",
        "oracle, 3 sites",
    ]
    assert list(lines(Axes(sites=(1, 2)), "shot")) == ["shot, 1 site", "shot, 2 sites"]
    assert list(lines(Axes(epsilons=(0.5,)), "socket", "adabn")) == ["socket, epsilon 0.5", "adabn"]


def test_an_axis_with_one_value_is_no_word_of_a_label_but_a_setting_of_all() -> None:
    axes = Axes(sites=(2,), partitions=("dirichlet:0.5",))
    plan = plan_of(axes, "shot", "oracle")
    assert [line.label for line in plan.lines()] == ["shot", "oracle"]
    for experiment in (plan.experiment, *(line.experiment for line in plan.lines())):
        assert (experiment.federation.sites, experiment.federation.partition) == (2, "dirichlet:0.5")
        assert experiment.name == "small-2-sites-dirichlet-0.5"
    assert plan.named() == {}


def test_without_axes_all_is_as_it_was() -> None:
    base = experiment_with()
    plain, grid = Plan(base, ("shot", "socket"), (0,), Path("h"), Path("c"), 1), plan_of(Axes(), "shot", "socket")
    assert grid.cells(0) == plain.cells(0)
    assert common(base, Axes()) is base


def test_a_point_that_is_the_experiment_itself_keeps_its_name_and_so_its_results() -> None:
    own = Plan(experiment_with(), ("shot",), (0,), Path("h"), Path("c"), 1).cells(0)
    wider = plan_of(Axes(sites=(2, 3), partitions=("dirichlet:0.5", "iid")), "shot").cells(0)
    assert {job_of(cell) for cell in own} <= {job_of(cell) for cell in wider}
    paths = {cell.path(Path("h")): job_of(cell) for cell in wider}
    assert len(paths) == len(set(paths.values())) == len(set(map(job_of, wider)))


def test_what_does_not_depend_on_an_axis_is_run_once() -> None:
    cells = plan_of(FULL, "unadapted", "adabn", "shot", "socket", "oracle").cells(0)
    jobs = set(map(job_of, cells))

    def count(method: str, mode: str) -> tuple[int, int]:
        own = [c for c in cells if (c.experiment.method.name, c.mode) == (method, mode)]
        return len(own), len({job_of(c) for c in own})

    assert count("unadapted", "unadapted") == (1, 1)
    assert count("adabn", "centralised") == (4, 1)  # no steps, so no matter of how many sites
    assert count("shot", "centralised") == (4, 2)  # as many steps as all sites together
    assert count("shot", "federated") == count("shot", "local") == (4, 4)
    assert count("socket", "centralised") == (8, 4)
    assert count("oracle", "centralised") == (2, 2)
    assert len(jobs) < len(cells)
    assert {c.partition for c in cells if c.label.endswith("dirichlet:0.5")} == {"dirichlet:0.5"}


@pytest.mark.parametrize("label", ["shot, 2 sites", "shot, 3 sites", "socket, epsilon 1, 2 sites"])
def test_all_modes_of_a_line_see_as_many_images(label: str) -> None:
    axes = Axes((1.0,), (2, 3))
    visits = {c.mode: training(job_of(c)) for c in plan_of(axes, "shot", "socket").cells(0) if c.label == label}
    assert set(visits) == {"local", "federated", "centralised"}
    assert len(set(visits.values())) == 1
    if label.startswith("shot"):
        assert visits["local"] == int(label.split()[1]) * 2 * 2 * 4  # sites, rounds, steps, batch


def test_points_on_the_axis_of_budgets_differ_in_nothing_but_dp() -> None:
    found = lines(Axes((1.0, 8.0, None)), "socket", "tgkt")
    for method in ("socket", "tgkt"):
        first, second, without = (
            found[f"{method}, {e}"].experiment.model_copy(update={"name": "x", "privacy": None})
            for e in ("epsilon 1", "epsilon 8", "without DP")
        )
        assert first == second == without
        assert (without.method.trust, without.method.translator.weights.domain) == ("always", 0.0)
    budget = found["socket, epsilon 1"].experiment.privacy
    assert budget is not None
    assert (budget.epsilon, budget.expected_batch, budget.every) == (1.0, 21 // 3, 2)  # pairs of a site, all its steps
    assert [found[x].experiment.name for x in ("socket, epsilon 1", "socket, without DP")] == [
        "small-epsilon-1",
        "small-without-dp",
    ]


def test_without_a_budget_on_the_axis_settings_stay_those_of_the_experiment() -> None:
    base = experiment_with()
    assert lines(Axes((None,)), "socket")["socket, without DP"].experiment == base


def test_a_section_of_the_experiment_is_kept_but_for_the_budget_and_the_pairs_of_a_site() -> None:
    changes = {"privacy": PRIVACY, "method__trust": "always"}
    found = lines(Axes((1.0,), (3, 6)), "socket", **changes)
    few, many = (found[f"socket, epsilon 1, {n} sites"].experiment.privacy for n in (3, 6))
    assert few is not None
    assert many is not None
    assert (few.epsilon, few.sample_rate, few.expected_batch) == (1.0, 0.5, 6)
    assert (many.epsilon, many.sample_rate, many.expected_batch) == (1.0, 0.5, 3)


def test_one_place_sees_each_pair_as_rarely_as_its_steps_are_many_and_keeps_the_budget() -> None:
    (line,) = lines_of(experiment_with(), ("socket",), Axes((3.0,)))
    own, central = line.experiment.privacy, line.central.privacy
    assert own is not None
    assert central is not None
    assert central.model_copy(update={"sample_rate": own.sample_rate}) == own
    assert own.sample_rate == 1.0
    assert central.sample_rate == pytest.approx(1 / 3)
    # Pairs that all TI steps see: per site its own in each step; in one place a third of all, thrice as often.
    assert with_steps(line.central, 3).federation.steps * central.sample_rate == pytest.approx(
        line.experiment.federation.steps * own.sample_rate
    )
    for mode, experiment in (("federated", line.experiment), ("centralised", line.central)):
        spent, _ = cell_epsilon(Cell(experiment, mode))  # type: ignore[arg-type]
        assert spent is not None
        assert 2.9 < spent <= 3.0


@pytest.mark.parametrize("data", [{"data__ti_fraction": 0.5}, {"data__ti_classes": ["arch"]}])
def test_where_the_number_of_pairs_is_not_known_a_section_is_asked_for(data: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="no privacy section") as caught:
        lines(Axes((3.0,)), "socket", **data)
    assert caught.value.where == "--epsilon"
    assert "expected_batch" in caught.value.remedy


def test_an_axis_of_budgets_needs_a_method_with_pairs() -> None:
    with pytest.raises(ConfigError, match="learns from TI pairs") as caught:
        lines(Axes((3.0,)), "shot", "adabn")
    assert caught.value.where == "--epsilon"


def test_a_point_that_is_no_experiment_is_refused_by_its_option() -> None:
    with pytest.raises(ConfigError, match="sensor") as caught:
        lines(Axes(partitions=("iid", "sensor")), "shot")
    assert "--partition sensor" in caught.value.where


def test_names_stay_within_what_files_may_be_called() -> None:
    with pytest.raises(ConfigError, match="longer than 64") as caught:
        lines(Axes(sites=(2,)), "shot", name="n" * 60)
    assert caught.value.where == "key 'name'"


@pytest.mark.parametrize("name", ["small-2-sites", "SMALL-2-sites"])
def test_a_variant_called_as_a_point_is_refused(name: str) -> None:
    grid = lines_of(experiment_with(), ("shot",), Axes(sites=(2, 3)))
    check_names(grid, [experiment_with(name="other")])
    with pytest.raises(ConfigError, match="name of a point of the grid") as caught:
        check_names(grid, [experiment_with(name=name)])
    assert caught.value.where == "--variants"


def test_who_must_answer_stays_everybody_where_it_was() -> None:
    found = lines(Axes(sites=(1, 5)), "shot", federation__quorum=3)
    assert [line.experiment.federation.quorum for line in found.values()] == [1, 5]
    found = lines(Axes(sites=(1, 5)), "shot", federation__quorum=2)
    assert [line.experiment.federation.quorum for line in found.values()] == [1, 2]
