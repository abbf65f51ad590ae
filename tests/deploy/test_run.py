"""``socket-owner run``: what it refuses, what it hands to Flower, and that a failed run is an error."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from deploy.layout import Deployment
from deploy.run import run_experiment
from server.app import job_folder
from server.cli import app as owner_app
from server.flower_link import FlowerLink
from server.journal import Journal
from socket_core.config import load_experiment
from socket_core.errors import DeploymentError, FederationError, ReleaseError
from tests.deploy.builders import deployment_in, python
from tests.server.builders import raw_with

RUN_ID = "123456789"


class Flower:
    """Stands for Flower's commands: runs that are going on, and how the next one ends."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.going: list[str] = []
        self.asked: list[tuple[str, ...]] = []
        self.ends = "finished:completed"
        self.given: dict[str, str] = {}
        monkeypatch.setattr("deploy.run.ask", self.ask)
        monkeypatch.setattr("deploy.run.nodes.register", lambda _: self.asked.append(("register",)))
        monkeypatch.setattr("deploy.run.listens", lambda *_: True)
        monkeypatch.setattr("deploy.run.LOOK_SECONDS", 0.01)
        monkeypatch.setattr(FlowerLink, "command", lambda _, given: self.command(given))
        monkeypatch.setattr(FlowerLink, "status", lambda _, run_id: {RUN_ID: self.ends}[run_id])

    def ask(self, _deployment: Deployment, *words: str, check: bool = True) -> dict[str, Any]:
        self.asked.append(words)
        if words[0] == "stop":
            self.going.remove(words[1])
        done = [{"run-id": "1", "status": "finished:failed"}]
        return {"success": True, "runs": [*done, *({"run-id": i, "status": "running"} for i in self.going)]}

    def command(self, given: dict[str, str]) -> list[str]:
        self.given = given
        return python(f"print('Successfully started run {RUN_ID}'); print('/srv/secret/images/a.png: broken')")


@pytest.fixture
def flower(monkeypatch: pytest.MonkeyPatch) -> Flower:
    return Flower(monkeypatch)


@pytest.fixture
def plants(tmp_path: Path) -> Deployment:
    return deployment_in(tmp_path / "plants")


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "e.yaml"
    path.write_text(yaml.safe_dump(raw_with()))
    return path


def test_a_run_is_handed_over_and_its_end_reported(plants: Deployment, flower: Flower, config: Path) -> None:
    journal = Journal(job_folder(plants.home, load_experiment(config)) / "rounds.jsonl")
    journal.append({"round": 1, "sites": ["north"], "held_out": {"mean": 0.5}})
    facts = run_experiment(plants, config, resume=False, quiet=True)
    assert flower.given == {"config": str(config), "home": str(plants.home), "resume": "no"}
    assert facts == {
        "run_id": RUN_ID,
        "status": "finished:completed",
        "rounds": 1,
        "sites": ["north"],
        "held_out": 0.5,
        "folder": str(journal.path.parent),
    }
    assert flower.asked == [("register",), ("list",)]
    (log,) = plants.logs.glob("run-*.log")
    assert [line.split(maxsplit=2)[2] for line in log.read_text().splitlines()] == [
        f"Successfully started run {RUN_ID}",
        "<path>: broken",
    ]


def test_a_failed_run_is_an_error_with_its_exit_code(plants: Deployment, flower: Flower, config: Path) -> None:
    flower.ends = "finished:failed"
    with pytest.raises(FederationError, match=r"ended as 'finished:failed'(.|\n)*--resume") as error:
        run_experiment(plants, config, resume=False, quiet=True)
    assert error.value.exit_code == 6


def test_another_run_is_waited_for_unless_it_is_to_be_resumed(plants: Deployment, flower: Flower, config: Path) -> None:
    flower.going = ["77777777"]
    with pytest.raises(FederationError, match=r"run 77777777 is going on\n.*--resume"):
        run_experiment(plants, config, resume=False, quiet=True)
    assert flower.given == {}
    run_experiment(plants, config, resume=True, quiet=True)
    assert ("stop", "77777777") in flower.asked
    assert flower.given["resume"] == "yes"


def test_ctrl_c_stops_the_run(
    plants: Deployment, flower: Flower, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*given: Any) -> None:
        given[2].wait()
        raise KeyboardInterrupt

    flower.going = [RUN_ID]
    monkeypatch.setattr("deploy.run._clear_the_way", lambda *_: None)
    monkeypatch.setattr("deploy.run._follow", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run_experiment(plants, config, resume=False)
    assert flower.asked[-1] == ("stop", RUN_ID)


def test_nobody_serves(plants: Deployment, config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deploy.run.listens", lambda *_: False)
    with pytest.raises(DeploymentError, match=r"nobody serves this deployment\n.*socket-owner serve"):
        run_experiment(plants, config, resume=False)


def test_own_images_need_a_release_first(plants: Deployment, flower: Flower, tmp_path: Path) -> None:
    config = tmp_path / "own.yaml"
    config.write_text(yaml.safe_dump(raw_with(data__kind="folder", data__root=str(tmp_path))))
    with pytest.raises(ReleaseError, match=r"the release is not there\n.*socket-owner train --config"):
        run_experiment(plants, config, resume=False)
    assert flower.asked == []


def test_the_commands_answer_in_json(tmp_path: Path, flower: Flower, config: Path) -> None:
    folder = tmp_path / "made"
    made = CliRunner().invoke(
        owner_app, ["init-deployment", str(folder), "--sites", "a, b", "--host", "192.0.2.7", "--json"]
    )
    assert made.exit_code == 0, made.output
    assert set(json.loads(made.output)["kits"]) == {"a", "b"}
    done = CliRunner().invoke(owner_app, ["run", str(folder), "--config", str(config), "--json"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.output)["run_id"] == RUN_ID
