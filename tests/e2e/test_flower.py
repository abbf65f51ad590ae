"""The real thing: a SuperLink, Ray and ``flwr run``, once; and what Flower would ship to the sites."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image
from rich.console import Console

from server.app import job_folder
from server.checkpoint import Identity, load_newest
from server.compare import Plan, compare
from server.federate import FlowerFederator, LocalFederator
from server.flower_link import QUIET
from server.journal import Journal
from server.progress import Display
from server.simulation import simulation_link
from socket_core.config import Experiment, load_experiment
from socket_core.errors import FederationError
from socket_core.exchange import Flat
from socket_core.keys import load_public_key
from socket_core.release import read_info
from socket_core.run_config import APP
from tests.e2e.processes import processes_of
from tests.server.builders import experiment_with, raw_with


def quiet_display() -> Display:
    display = Display(quiet=True)
    display.console = Console(quiet=True)
    return display


def png_folder(root: Path) -> None:
    """RGB-depth pairs in the common layout: two classes of the task, one beside it."""
    rng = np.random.default_rng(0)
    for split, name in itertools.product(("train", "test"), ("cat", "dog", "tree")):
        for modality, shape in (("rgb", (48, 48, 3)), ("depth", (48, 48))):
            folder = root / split / modality / name
            folder.mkdir(parents=True)
            for i in range(12):
                Image.fromarray(rng.integers(0, 255, shape, dtype=np.uint8)).save(folder / f"{i:02d}.png")


def patient(**changes: Any) -> Experiment:
    """The small experiment, with time for sites whose processes start on a machine with other work."""
    return experiment_with(federation__enrol_seconds=300.0, federation__deadline_seconds=300.0, **changes)


def plan_in(home: Path, cache: Path) -> Plan:
    variant = patient(name="no-ti", method__weights={"ti": 0.0})
    return Plan(patient(), ("socket",), (0,), home, cache, workers=1, variants=(variant,))


def final_parameters(home: Path, experiment: Experiment) -> Flat:
    info, _ = read_info(home / "release-seed0", load_public_key(home / "keys" / "owner.pub.pem"))
    newest = load_newest(job_folder(home, experiment) / "checkpoints", Identity(experiment.digest(), info.digest))
    assert newest is not None
    return newest[0].parameters


@pytest.mark.flwr
def test_a_real_flower_run_gives_the_parameters_of_the_run_in_process_and_leaves_nothing_running(
    tmp_path: Path,
) -> None:
    cache = tmp_path / "cache"
    inside, flower = plan_in(tmp_path / "inside", cache), plan_in(tmp_path / "flower", cache)
    rows = compare(inside, LocalFederator(), quiet_display())
    flower.home.mkdir()
    for part in ("keys", "release-seed0"):  # the same source model, hence the same start
        (flower.home / part).symlink_to(inside.home / part)
    flower_rows = compare(flower, FlowerFederator(), quiet_display())

    experiment = inside.variant("socket", 0)
    np.testing.assert_array_equal(final_parameters(flower.home, experiment), final_parameters(inside.home, experiment))
    for label in ("socket", "no-ti"):
        federated, expected = (
            {(r.label, r.mode): r for r in found}[label, "federated"] for found in (flower_rows, rows)
        )
        assert federated.confusion == expected.confusion
        assert federated.by_site == expected.by_site
        assert federated.said == expected.said != ()
        assert federated.bytes_up == expected.bytes_up > 0
    assert Journal(job_folder(flower.home, experiment) / "rounds.jsonl").rounds() == 2
    assert processes_of(flower.home) == []


@pytest.mark.flwr
def test_a_folder_of_images_named_relative_to_its_experiment_is_found_by_the_sites(tmp_path: Path) -> None:
    png_folder(tmp_path / "images")
    raw = raw_with(federation__sites=2, federation__rounds=1, federation__enrol_seconds=300.0)
    raw["data"] = {"kind": "folder", "root": "images", "classes": ["cat", "dog"], "size": 48}
    config = tmp_path / "e.yaml"
    config.write_text(yaml.safe_dump(raw), encoding="utf-8")
    plan = Plan(load_experiment(config), ("shot",), (0,), tmp_path / "home", tmp_path / "cache", 1, True)
    rows = compare(plan, FlowerFederator(), quiet_display())
    assert {row.mode for row in rows} == {"local", "federated", "centralised"}


@pytest.mark.flwr
def test_a_run_that_fails_is_an_error_although_flwr_run_exits_with_0(tmp_path: Path) -> None:
    config = tmp_path / "broken.yaml"
    config.write_text(yaml.safe_dump({"methd": {"name": "socket"}}), encoding="utf-8")
    log = tmp_path / "run.log"
    with simulation_link(tmp_path) as link:
        process = link.run({"config": str(config), "home": str(tmp_path)}, sites=2, cpus=1, log=log)
        with pytest.raises(FederationError, match="did you mean 'method'"):
            link.finish(process, log)
        assert process.returncode == 0


def test_what_flower_ships_to_sites_is_small_and_holds_code_and_configs_only(tmp_path: Path) -> None:
    flwr = Path(sys.executable).parent / "flwr"
    environment = {**os.environ, **QUIET, "FLWR_HOME": str(tmp_path / "flwr")}
    subprocess.run([str(flwr), "build", "--app", str(APP)], cwd=tmp_path, env=environment, check=True, timeout=120)
    (fab,) = tmp_path.glob("*.fab")
    names = zipfile.ZipFile(fab).namelist()
    assert fab.stat().st_size < 1_000_000
    assert {"server/app.py", "client/app.py", "socket_core/engine.py", "protos/wire_pb2.py"} <= set(names)
    assert {"configs/demo.yaml", "configs/nyuv2.yaml"} <= set(names)
    assert not [name for name in names if name.startswith("server/html/") or "/cli" in name or "/doctor" in name]
    top = {name.split("/")[0] for name in names}
    assert top <= {
        "server",
        "client",
        "socket_core",
        "protos",
        "configs",
        "pyproject.toml",
        "README.md",
        "LICENSE",
        ".info",
    }
