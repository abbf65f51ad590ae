"""Event files hold what the records say, once, and are readable by TensorBoard itself."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from typer.testing import CliRunner

from server import tensorboard_log
from server.cli import app
from server.tensorboard_log import write_logs
from socket_core.errors import ConfigError
from tests.server.test_watch import RECORD, write


def read(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Every scalar of a log folder: tag, then step and value."""
    found = EventAccumulator(str(folder)).Reload()
    return {tag: [(event.step, event.value) for event in found.Scalars(tag)] for tag in found.Tags()["scalars"]}


def test_each_round_becomes_a_point_of_each_curve(tmp_path: Path) -> None:
    first = {**RECORD, "round": 1, "held_out": {"mean": 0.25, "worst": 0.125}, "refused": {}}
    write(tmp_path / "runs" / "demo" / "rounds.jsonl", first, RECORD)
    result = CliRunner().invoke(app, ["tensorboard", str(tmp_path / "runs"), "--out", str(tmp_path / "logs")])
    assert result.exit_code == 0, result.output
    assert "demo: 2 rounds" in result.stdout.replace("\n", "")
    assert read(tmp_path / "logs" / "demo") == {
        "accuracy/mean over sites": [(1, 0.25), (2, 0.5)],
        "accuracy/worst site": [(1, 0.125), (2, 0.25)],
        "sites/answered": [(1, 2.0), (2, 2.0)],
        "sites/left out": [(1, 2.0), (2, 3.0)],
        "bytes/up": [(1, 2e6), (2, 2e6)],
        "bytes/down": [(1, 1.5e6), (2, 1.5e6)],
        "seconds/training": [(1, pytest.approx(3.21)), (2, pytest.approx(3.21))],
    }


def test_what_was_not_measured_is_no_point(tmp_path: Path) -> None:
    kept = {"round", "sites", "bytes_up", "bytes_down"}
    write(tmp_path / "rounds.jsonl", {key: value for key, value in RECORD.items() if key in kept})
    write_logs(tmp_path, tmp_path / "logs")
    assert set(read(tmp_path / "logs")) == {"sites/answered", "sites/left out", "bytes/up", "bytes/down"}


def test_a_second_call_replaces_its_own_files_and_no_other(tmp_path: Path) -> None:
    logs = tmp_path / "logs"
    write(tmp_path / "run" / "rounds.jsonl", RECORD)
    write_logs(tmp_path / "run", logs)
    (logs / "events.out.tfevents.1.other").write_bytes(b"")
    write(tmp_path / "run" / "rounds.jsonl", RECORD, {**RECORD, "round": 3})
    write_logs(tmp_path / "run", logs)
    assert len(list(logs.glob("events.out.tfevents.*"))) == 2
    assert [step for step, _ in read(logs)["bytes/up"]] == [2, 3]


def test_without_the_package_the_extra_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(tensorboard_log, "find_spec", lambda name: None if name == "tensorboard" else find_spec(name))
    write(tmp_path / "rounds.jsonl", RECORD)
    with pytest.raises(ConfigError, match="tensorboard, which is not installed") as caught:
        write_logs(tmp_path, tmp_path / "logs")
    assert "socket-fl[tensorboard]" in caught.value.remedy
    assert not (tmp_path / "logs").exists()
