"""Help that teaches: each command has an example that could be typed, and the shell completes what is typed."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from click import Command, Group
from typer.testing import CliRunner

from client.cli import app as site_app
from server.cli import app as owner_app

PROGRAMS = {"socket-owner": owner_app, "socket-site": site_app}


def group(app: typer.Typer) -> Group:
    found = typer.main.get_command(app)
    assert isinstance(found, Group)
    return found


COMMANDS = [(program, name) for program, app in PROGRAMS.items() for name in group(app).commands]


def examples(program: str, text: str) -> list[list[str]]:
    """Words of each line of a help text that shows a call of the program, without its name."""
    flat = re.sub(r"\n(?!\n)", " ", text)
    found = re.findall(rf"{program} ((?:(?! {{2}}|\n|, then|\|).)+)", flat)
    return [call.split() for call in found if not call.startswith(("COMMAND", "--install", "serve afterwards"))]


def options_of(command: Command) -> set[str]:
    return {option for parameter in command.params for option in parameter.opts} | {"--help"}


@pytest.mark.parametrize(("program", "name"), COMMANDS)
def test_every_command_has_an_example_of_itself_with_options_that_it_has(program: str, name: str) -> None:
    command = group(PROGRAMS[program]).commands[name]
    own = [words for words in examples(program, command.help or "") if words[0] == name]
    assert own
    for words in own:
        assert {word for word in words if word.startswith("--")} <= options_of(command)
        given = {word for word in words if word.startswith("--")}
        needed = {p.opts[0] for p in command.params if p.required and p.opts[0].startswith("--")}
        assert needed <= given


@pytest.mark.parametrize("program", PROGRAMS)
def test_the_help_of_a_program_leads_along_commands_that_exist(program: str) -> None:
    app = group(PROGRAMS[program])
    path = examples(program, app.help or "")
    assert len(path) >= 4
    for name, *words in path:
        assert {word for word in words if word.startswith("--")} <= options_of(app.commands[name])
    shown = CliRunner().invoke(PROGRAMS[program], ["--help"]).output
    assert "A first path" in shown


def completed(program: str, line: str) -> list[str]:
    """What bash would offer at the end of ``line``."""
    variable = f"_{program.upper().replace('-', '_')}_COMPLETE"
    words = line.split(" ")
    environment = {**os.environ, variable: "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1)}
    command = [str(Path(sys.executable).parent / program)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.split()


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("socket-owner comp", ["compare"]),
        ("socket-owner compare --dry", ["--dry-run"]),
        ("socket-owner compare --methods adabn,so", ["adabn,socket"]),
        ("socket-owner compare --modes cen", ["centralised"]),
        ("socket-owner compare --partition iid,s", ["iid,sensor"]),
        ("socket-owner compare --config configs/comp", ["configs/compare.yaml"]),
        ("socket-site adapt --method tg", ["tgkt"]),
    ],
)
def test_the_shell_completes_commands_options_and_values(line: str, expected: list[str]) -> None:
    assert completed(line.split()[0], line) == expected


def test_completion_needs_no_pytorch() -> None:
    code = "import sys, server.cli; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
