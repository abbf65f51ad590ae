"""The comparison as a whole, in process: modes, reuse, resumption, what is written, the command line."""

from __future__ import annotations

import dataclasses
import json
import multiprocessing
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from client.cli import app as site_app
from server import arm_pool
from server import compare as compare_module
from server.arms import Arm, run_arm
from server.cells import kept_row
from server.cli import app as owner_app
from server.compare import Plan, compare, modes_of
from server.comparison_report import publish
from server.federate import LocalFederator
from server.progress import Display
from server.results import read_results
from server.sources import source_files
from socket_core.config import DataConfig
from socket_core.data.catalogue import load_task
from socket_core.data.types import TransferTask
from socket_core.errors import ConfigError, ReleaseError
from tests.client.builders import Deployment
from tests.e2e.processes import gone
from tests.server.builders import experiment_with, raw_with

QUIET = Display(quiet=True)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Plan:
    """A comparison of all methods, run once."""
    root = tmp_path_factory.mktemp("compare")
    methods = ("unadapted", "adabn", "shot", "socket", "oracle")
    plan = Plan(experiment_with(), methods, (0,), root / "home", root / "cache", workers=2)  # type: ignore[arg-type]
    rows = compare(plan, LocalFederator(), QUIET)
    publish(plan, rows, QUIET, command="socket-owner compare", started=0.0)
    return plan


def test_every_method_has_its_modes_and_only_the_oracle_is_stamped(finished: Plan) -> None:
    rows, rest = read_results(finished.home / "results.json")
    assert [(r.method, r.mode) for r in rows] == [(m, mode) for m in finished.methods for mode in modes_of(m)]
    assert {r.method for r in rows if r.oracle} == {"oracle"}
    assert rest["oracle"] is True
    assert rest["classes"][0] == "sphere"
    assert all(r.epsilon is None and r.epsilon_unit == "none" for r in rows)


def test_federated_and_centralised_see_as_many_images(finished: Plan) -> None:
    rows = {(r.method, r.mode): r for r in read_results(finished.home / "results.json")[0]}
    for method in ("shot", "socket"):
        steps = {rows[method, mode].steps for mode in ("local", "federated", "centralised")}
        visits = {rows[method, mode].visits for mode in ("local", "federated", "centralised")}
        assert steps == {3 * 2 * 2}
        assert len(visits) == 1
    assert rows["socket", "centralised"].visits == 12 * (4 + 4)


def test_curves_start_at_the_unadapted_model(finished: Plan) -> None:
    rows = read_results(finished.home / "results.json")[0]
    start = next(r.accuracy for r in rows if r.method == "unadapted")
    assert all(r.curve[0] == pytest.approx(start) for r in rows)
    assert all(r.curve[-1] == pytest.approx(r.accuracy) for r in rows)


def test_a_second_call_takes_everything_and_changes_no_row(finished: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    before = read_results(finished.home / "results.json")[0]

    def no_work(*_: object) -> None:
        raise AssertionError("nothing should run again")

    monkeypatch.setattr(compare_module, "run_arm", no_work)
    monkeypatch.setattr(arm_pool, "_processes", no_work)
    monkeypatch.setattr(LocalFederator, "run", no_work)
    assert compare(finished, LocalFederator(), QUIET) == before


def test_a_damaged_cell_is_run_again_to_the_same_row(finished: Plan) -> None:
    before = read_results(finished.home / "results.json")[0]
    cell = finished.home / "cells" / "small-adabn-seed0-local.json"
    cell.write_text(cell.read_text()[:40])
    after = compare(finished, LocalFederator(), QUIET)
    assert [r.accuracy for r in after] == [r.accuracy for r in before]


def test_a_changed_experiment_takes_no_old_cell(finished: Plan, tmp_path: Path) -> None:
    changed = Plan(experiment_with(method__lr=0.01), ("shot",), (0,), finished.home, finished.cache, workers=1)
    cell = changed.cells(0)[0]
    assert kept_row(cell, changed.home, "any") is None


def test_variants_are_rows_of_their_own_on_the_same_source_model(finished: Plan, tmp_path: Path) -> None:
    variants = (
        experiment_with(name="two-sites", method__name="shot", federation__sites=2, federation__rounds=1),
        experiment_with(name="few-pairs", federation__partition="dirichlet:0.5", data__ti_classes=["arch"]),
    )
    plan = dataclasses.replace(finished, methods=("shot",), variants=variants, modes=("federated",))
    loaded: list[DataConfig] = []

    def counted(cfg: DataConfig, **rest: Any) -> TransferTask:
        loaded.append(cfg)
        return load_task(cfg, **rest)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compare_module, "load_task", counted)
        rows = compare(plan, LocalFederator(), QUIET)
    assert loaded == [variants[0].data, variants[1].data]  # once for each, not for each row
    before = {(r.label, r.mode): r for r in read_results(finished.home / "results.json")[0]}
    assert rows[0] == before["shot", "federated"]
    assert [(r.label, r.method, r.mode, r.partition, r.rounds) for r in rows[1:]] == [
        ("two-sites", "shot", "federated", "iid", 1),
        ("few-pairs", "socket", "federated", "dirichlet:0.5", 2),
    ]
    assert rows[1].steps == 2 * 2
    assert rows[1].curve[0] == rows[2].curve[0] == before["unadapted", "unadapted"].accuracy
    assert all(r.prediction_entropy is not None and 0 <= r.prediction_entropy <= 1 for r in rows)
    assert compare(plan, LocalFederator(), QUIET) == rows

    written = dataclasses.replace(plan, home=tmp_path)
    publish(written, rows, QUIET, command="socket-owner compare", started=0.0)
    again, rest = read_results(tmp_path / "results.json")
    assert again == rows
    assert list(rest["variants"]) == ["two-sites", "few-pairs"]
    assert "| two-sites |" in (tmp_path / "report.md").read_text()
    assert (tmp_path / "curves.png").exists()


def test_the_command_takes_variants_without_methods_in_one_mode(finished: Plan, tmp_path: Path) -> None:
    base = tmp_path / "base.yaml"
    base.write_text(yaml.safe_dump(raw_with()))
    folder = tmp_path / "ablations"
    folder.mkdir()
    for name in ("b", "a"):
        (folder / f"{name}.yaml").write_text(f"extends: ../base.yaml\nname: {name}\nmethod: {{name: adabn}}\n")
    out = tmp_path / "out"
    command = ["compare", "--config", str(base), "--out", str(out), "--cache", str(finished.cache), "--in-process"]
    command += ["--methods", "none", "--variants", str(folder), "--modes", "centralised", "--quiet", "--json"]
    done = CliRunner().invoke(owner_app, [*command, "--workers", "1"])
    assert done.exit_code == 0, done.output
    assert [(r["label"], r["mode"]) for r in json.loads(done.stdout)["rows"]] == [
        ("a", "centralised"),
        ("b", "centralised"),
    ]


def test_a_failure_while_a_row_is_kept_ends_the_workers(
    finished: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise KeyboardInterrupt

    long = experiment_with(federation__steps=100_000, federation__rounds=1)
    plan = Plan(long, ("adabn", "shot"), (0,), tmp_path / "home", finished.cache, workers=2)
    monkeypatch.setattr(compare_module, "keep_row", fails)
    with pytest.raises(KeyboardInterrupt) as caught:
        compare(plan, LocalFederator(), QUIET)
    assert caught.tb is not None  # the traceback is still held, and the workers are gone all the same
    assert gone([child.pid for child in multiprocessing.active_children() if child.pid is not None], 10)


def test_one_site_alone_is_the_centralised_arm_when_it_holds_everything(finished: Plan) -> None:
    one = experiment_with(federation__sites=1, federation__quorum=1)
    sources = source_files(finished.home, one)
    alone, central = (run_arm(Arm(one, site, sources, finished.cache)) for site in (0, None))
    assert [c.tolist() for c in alone.held_out] == [c.tolist() for c in central.held_out]


def test_a_release_made_with_other_settings_is_refused(finished: Plan) -> None:
    other = Plan(experiment_with(network__bottleneck_dim=9), ("unadapted",), (0,), finished.home, finished.cache)
    with pytest.raises(ReleaseError, match="network.bottleneck_dim 8, the experiment says 9"):
        compare(other, LocalFederator(), QUIET)


def test_the_reports_are_made_again_from_the_results_alone(finished: Plan) -> None:
    names = ("report.html", "report.md", "results.csv")
    before = [(finished.home / name).read_bytes() for name in names]
    assert b'src="data:image/png;base64,' in before[0]
    done = CliRunner().invoke(owner_app, ["report", str(finished.home / "results.json")])
    assert done.exit_code == 0, done.output
    assert [(finished.home / name).read_bytes() for name in names] == before


def test_report_and_picture_are_written(finished: Plan) -> None:
    text = (finished.home / "report.md").read_text()
    assert "| socket |" in text
    assert "oracle (uses target labels)" in text
    assert (finished.home / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_unknown_methods_modes_and_seeds_are_named(tmp_path: Path) -> None:
    runner, config = CliRunner(), tmp_path / "e.yaml"
    config.write_text(yaml.safe_dump(raw_with()))
    for option, value in (
        ("--methods", "sockt"),
        ("--methods", "none"),
        ("--methods", ""),
        ("--seeds", "one"),
        ("--modes", "central"),
        ("--modes", ""),
    ):
        result = runner.invoke(owner_app, ["compare", "--config", str(config), option, value])
        assert isinstance(result.exception, ConfigError)
        assert option in str(result.exception)


def test_training_needs_the_owners_word_on_batchnorm_statistics_before_it_starts(tmp_path: Path) -> None:
    config = tmp_path / "e.yaml"
    config.write_text(yaml.safe_dump(raw_with()))
    result = CliRunner().invoke(owner_app, ["train", "--config", str(config), "--out", str(tmp_path / "out")])
    assert isinstance(result.exception, ReleaseError)
    assert not (tmp_path / "out").exists()


def test_train_then_inspect_then_adapt_at_a_site_without_any_server(finished: Plan, tmp_path: Path) -> None:
    config, out = tmp_path / "e.yaml", tmp_path / "out"
    config.write_text(yaml.safe_dump(raw_with()))
    runner = CliRunner()
    train = ["train", "--config", str(config), "--out", str(out), "--cache", str(finished.cache), "--json", "--quiet"]
    trained = runner.invoke(owner_app, [*train, "--confirm-batchnorm-statistics"])
    assert trained.exit_code == 0, trained.output
    facts = json.loads(trained.stdout)
    key = out / "keys" / "owner.pub.pem"
    shown = runner.invoke(owner_app, ["inspect", facts["release"], "--key", str(key), "--json"])
    assert json.loads(shown.stdout)["signature"] == "valid, weights match"
    unchecked = runner.invoke(owner_app, ["inspect", facts["release"]])
    assert "NOT CHECKED" in unchecked.stdout

    site_file = Deployment(tmp_path / "site", key).path
    checked = runner.invoke(site_app, ["check", str(site_file), "--config", str(config), "--json"])
    assert json.loads(checked.stdout)["task_relevant_images"] > 0
    adapted = tmp_path / "adapted.safetensors"
    done = runner.invoke(
        site_app,
        [
            "adapt",
            str(site_file),
            "--config",
            str(config),
            "--release",
            facts["release"],
            "--out",
            str(adapted),
            "--json",
        ],
    )
    assert json.loads(done.stdout)["steps"] == 4
    assert adapted.stat().st_size > 100_000


def test_an_error_is_one_message_and_its_exit_code(tmp_path: Path) -> None:
    command = [str(Path(sys.executable).parent / "socket-owner"), "compare", "--config", "missing.yaml"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert "What to do:" in done.stderr
    assert "Traceback" not in done.stderr
