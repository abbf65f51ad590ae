"""A look at running federations: what their records say, and nothing that they do not."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from typer.testing import CliRunner

from server.cli import app
from server.watch import look, plain, screen
from socket_core.errors import FederationError
from tests.server.builders import World, short_bench


def write(path: Path, *records: dict[str, Any], tail: str = "") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(record) + "\n" for record in records) + tail)


RECORD = {
    "round": 2,
    "stage": "adapt",
    "sites": ["east", "north"],
    "refused": {"south": "too_large: norm 1e+09"},
    "declined": {"west": "policy"},
    "absent": ["hill"],
    "bytes_up": 2_000_000,
    "bytes_down": 1_000_000,
    "release_bytes": 500_000,
    "train_seconds": 3.21,
    "held_out": {"mean": 0.5, "worst": 0.25},
}


def shown(folder: Path) -> str:
    console = Console(width=200, file=io.StringIO(), record=True)
    console.print(screen(look(folder)))
    return console.export_text()


def test_a_round_is_told_in_a_line(tmp_path: Path) -> None:
    write(tmp_path / "demo" / "rounds.jsonl", RECORD)
    text = shown(tmp_path)
    for words in ("demo", "south (too_large: norm 1e+09), west (policy), hill (gone)", "50.0", "25.0", "2.00", "1.50"):
        assert words in text
    [found] = plain(look(tmp_path))
    assert found["rounds"][0]["left_out"] == {"south": "too_large: norm 1e+09", "west": "policy", "hill": "gone"}


def test_a_line_that_is_being_written_waits(tmp_path: Path) -> None:
    write(tmp_path / "rounds.jsonl", RECORD, tail='{"round": 3, "si')
    assert [record["round"] for record in look(tmp_path)[0].rounds] == [2]


def test_before_the_first_round_there_is_no_last_one(tmp_path: Path) -> None:
    write(tmp_path / "rounds.jsonl")
    text = shown(tmp_path)
    assert "no round is over yet" in text
    assert "ago" not in text


def test_what_was_not_measured_is_a_dash(tmp_path: Path) -> None:
    kept = {"round", "sites", "bytes_up", "bytes_down"}
    write(tmp_path / "rounds.jsonl", {key: value for key, value in RECORD.items() if key in kept})
    assert shown(tmp_path).count(" - ") >= 3


def test_the_one_that_moved_last_comes_last(tmp_path: Path) -> None:
    for index, name in enumerate(("b", "a")):
        write(tmp_path / name / "rounds.jsonl", RECORD)
        os.utime(tmp_path / name / "rounds.jsonl", (index, index))
    assert [one.name for one in look(tmp_path)] == ["b", "a"]


def test_a_folder_without_runs_says_what_to_give(tmp_path: Path) -> None:
    with pytest.raises(FederationError, match=r"no rounds\.jsonl"):
        look(tmp_path)


def test_the_command_shows_a_true_federation(world: World, tmp_path: Path) -> None:
    bench = short_bench(world, tmp_path)
    bench.run()
    result = CliRunner().invoke(app, ["watch", str(bench.home), "--json"])
    assert result.exit_code == 0
    [found] = json.loads(result.stdout)
    assert [record["round"] for record in found["rounds"]] == [record["round"] for record in bench.records()]
    assert all(0 <= record["accuracy"] <= 1 for record in found["rounds"])
    assert "round" in CliRunner().invoke(app, ["watch", str(bench.home), "--once"]).stdout
