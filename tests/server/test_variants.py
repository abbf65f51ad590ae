"""Variants are rows beside the plain methods: same images, same source model, names and folders of their own."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
import yaml

from server.app import job_folder, job_name
from server.cells import Cell, keep_row, kept_row
from server.compare import Plan, modes_of
from server.results import MODES
from server.variants import load_variants
from socket_core.config import NAME, Experiment
from socket_core.errors import ConfigError
from tests.server.builders import experiment_with, raw_with
from tests.server.rows import row


def file(folder: Path, name: str, **changes: Any) -> Path:
    """A variant of the small experiment; the stem is its name."""
    folder.mkdir(exist_ok=True)
    base, path = folder / "base.txt", folder / f"{name}.yaml"
    base.write_text(yaml.safe_dump(raw_with()), encoding="utf-8")
    own: dict[str, Any] = {"extends": base.name, "name": name}
    for dotted, value in changes.items():
        section, key = dotted.split("__")
        own.setdefault(section, {})[key] = value
    path.write_text(yaml.safe_dump(own), encoding="utf-8")
    return path


def plan_with(tmp_path: Path, *variants: Experiment, **rest: Any) -> Plan:
    methods = rest.pop("methods", ("unadapted", "shot", "oracle"))
    return Plan(experiment_with(), methods, (0, 1), tmp_path, tmp_path / "cache", 1, variants=variants, **rest)


def test_files_come_as_given_and_folders_sorted(tmp_path: Path) -> None:
    for name in ("b", "a"):
        file(tmp_path / "folder", name)
    found = load_variants([file(tmp_path, "z"), tmp_path / "folder"], experiment_with())
    assert [v.name for v in found] == ["z", "a", "b"]
    assert load_variants([], experiment_with()) == ()


def test_method_federation_and_pairs_may_differ_and_the_seed_is_the_comparisons(tmp_path: Path) -> None:
    path = file(
        tmp_path, "v", method__name="shot", federation__sites=5, federation__partition="iid", data__ti_classes=["a"]
    )
    path.write_text(path.read_text() + "seed: 9\n")
    (variant,) = load_variants([path], experiment_with())
    assert {c.experiment.seed for c in plan_with(tmp_path, variant).cells(1)} == {1}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data__size": 64}, "data.size: 64, the comparison has 48"),
        ({"data__modality": "nir"}, "data.modality: 'nir', the comparison has 'depth'"),
        ({"data__scenes": {"ti": 22}}, "data.scenes.ti: 22, the comparison has 21"),
        ({"data__root": "/x"}, "data.root: '/x', the comparison has ''"),
        ({"network__bottleneck_dim": 9}, "network.bottleneck_dim: 9, the comparison has 8"),
        ({"source__lr": 0.5}, r"source.lr: 0\.5, the comparison has 0\.01"),
    ],
)
def test_another_source_model_or_other_images_are_refused_by_file_and_key(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    path = file(tmp_path, "v", **changes)
    with pytest.raises(ConfigError, match=message) as caught:
        load_variants([path], experiment_with())
    assert caught.value.where == str(path)
    assert caught.value.remedy


def test_overrides_hold_for_variants_as_for_the_base(tmp_path: Path) -> None:
    base = experiment_with(data__root="/images")
    (variant,) = load_variants([file(tmp_path, "v")], base, {"data.root": "/images"})
    assert variant.data.root == "/images"


@pytest.mark.parametrize("name", ["small", "SMALL", "socket", "twin", "Twin"])
def test_two_rows_of_one_name_are_refused(tmp_path: Path, name: str) -> None:
    first, second = file(tmp_path / "one", "twin"), file(tmp_path / "two", name)
    with pytest.raises(ConfigError, match="key 'name'") as caught:
        load_variants([first, second], experiment_with())
    assert caught.value.where == str(second)


def test_a_folder_without_experiments_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no .yaml file") as caught:
        load_variants([tmp_path], experiment_with())
    assert caught.value.where == str(tmp_path)


def test_rows_of_variants_come_after_the_methods_under_their_own_names(tmp_path: Path) -> None:
    variants = (
        experiment_with(name="no-ti", method__weights={"ti": 0.0}),
        experiment_with(name="bound", method__name="oracle"),
    )
    cells = plan_with(tmp_path, *variants).cells(1)
    assert [(c.label, c.mode) for c in cells] == [
        ("unadapted", "unadapted"),
        *(("shot", mode) for mode in MODES),
        ("oracle", "centralised"),
        *(("no-ti", mode) for mode in MODES),
        ("bound", "centralised"),
    ]
    for cell in cells:
        federation = cell.experiment.federation
        assert (cell.experiment.seed, federation.quorum, federation.evaluate_every) == (1, federation.sites, 1)
    assert [c.label for c in plan_with(tmp_path, variants[1], methods=()).cells(0)] == ["bound"]


def test_modes_restrict_what_could_run_in_several(tmp_path: Path) -> None:
    plan = plan_with(tmp_path, experiment_with(name="v"), modes=("federated",))
    assert [(c.label, c.mode) for c in plan.cells(0)] == [
        ("unadapted", "unadapted"),
        ("shot", "federated"),
        ("oracle", "centralised"),
        ("v", "federated"),
    ]
    assert modes_of("shot", ("centralised", "local")) == ("local", "centralised")


def test_no_two_experiments_share_a_folder_or_a_cell(tmp_path: Path) -> None:
    import re

    names = ("a", "a-shot", "a-shot-seed0", "shot", "seed0", "small", "a.b", "release")
    methods = ("adabn", "shot", "socket")
    experiments = [
        experiment_with(name=n, method__name=m, seed=s) for n, m, s in itertools.product(names, methods, (0, 1, 10))
    ]
    assert len({job_folder(tmp_path, e) for e in experiments}) == len(experiments)
    paths = {Cell(e, mode).path(tmp_path) for e in experiments for mode in MODES}
    assert len(paths) == 3 * len(experiments)
    for experiment in experiments:
        assert re.fullmatch(NAME, job_name(experiment))
        assert job_folder(tmp_path, experiment).parent.name != f"release-seed{experiment.seed}"


def test_a_kept_row_is_called_what_the_comparison_at_hand_calls_it(tmp_path: Path) -> None:
    experiment = experiment_with(method__name="shot")
    keep_row(Cell(experiment, "local"), tmp_path, "basis", row("shot", "local"))
    plain, variant = (kept_row(Cell(experiment, "local", label), tmp_path, "basis") for label in ("", "mine"))
    assert plain is not None
    assert variant is not None
    assert (plain.label, variant.label) == ("shot", "mine")
