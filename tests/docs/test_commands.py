"""Every command of the documentation is run, or ``commands.yaml`` says why not; all exist with their options."""

from __future__ import annotations

import ast
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.docs import sandbox
from tests.docs.markdown import PAGES, ROOT, Block, blocks, commands, mentions
from tests.docs.programs import complaint

TABLE: dict[str, Any] = yaml.safe_load((Path(__file__).parent / "commands.yaml").read_text(encoding="utf-8"))
BLOCKS = {str(page.relative_to(ROOT)): blocks(page) for page in PAGES}
WITH_COMMANDS = [page for page, found in BLOCKS.items() if any(block.is_shell for block in found)]


def reasons(page: str, command: str) -> list[dict[str, str]]:
    """Why a command is not run; none if it is."""
    on_page = [one for one in TABLE["not run"] if one.get("page", page) == page]
    return [one for one in on_page if re.match(one["command"], command)]


def smaller(command: str) -> str:
    """The command as it is run."""
    for one in TABLE["smaller"]:
        command = re.sub(one["find"], one["put"], command)
    return command


def recipe(words: list[str]) -> list[str]:
    """What a target of the Makefile would call of ours, as Make itself says."""
    # This test may itself be run by a make, whose child says in which folder it works.
    command = ["make", "--no-print-directory", "-n", *words[1:]]
    said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    [line] = [one for one in said.replace("\\\n", " ").splitlines() if one.startswith(".venv/bin/socket-")]
    return [Path(one).name if one.startswith(".venv/bin/") else one for one in shlex.split(line)]


def every_command() -> Iterator[tuple[str, list[str]]]:
    for page, found in BLOCKS.items():
        for block in found:
            if block.is_shell:
                for words in commands(block):
                    yield page, words


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("docs") / "template"
    folder.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        sandbox.build(folder)
    return folder


@pytest.mark.parametrize("page", WITH_COMMANDS)
def test_commands_of_a_page_run_in_order(
    page: str, template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    todo: list[Block | list[str]] = [shlex.split(line) for line in TABLE["before"].get(page, [])]
    for block in BLOCKS[page]:
        todo += list(commands(block)) if block.is_shell else [block]
    if not any(isinstance(one, list) and not reasons(page, shlex.join(one)) for one in todo):
        return
    folder = tmp_path / "checkout"
    shutil.copytree(template, folder, symlinks=True)
    monkeypatch.chdir(folder)
    sandbox.stay_in_this_process(monkeypatch)
    for one in todo:
        if isinstance(one, Block):
            sandbox.write_file_of(one, folder)
        elif not reasons(page, shlex.join(one)):
            words = recipe(one) if one[0] == "make" else one
            sandbox.run(shlex.split(smaller(shlex.join(words))))


def test_commands_exist_with_their_options() -> None:
    wrong = [f"{page}: {shlex.join(words)}: {said}" for page, words in every_command() if (said := complaint(words))]
    assert wrong == []


def test_commands_in_running_text_exist_too() -> None:
    wrong = [
        f"{page.relative_to(ROOT)}: {shlex.join(words)}: {said}"
        for page in PAGES
        for words in mentions(page)
        if (said := complaint(words, whole="--config" in words))
    ]
    assert wrong == []


def test_each_reason_is_needed() -> None:
    every = [shlex.join(words) for _, words in every_command()]
    used = [id(one) for page, words in every_command() for one in reasons(page, shlex.join(words))]
    unused = [one["command"] for one in TABLE["not run"] if id(one) not in used]
    every.append(shlex.join(recipe(["make", "demo"])))
    unused += [one["find"] for one in TABLE["smaller"] if not any(re.search(one["find"], c) for c in every)]
    shown = [block.lines[0] for found in BLOCKS.values() for block in found]
    unused += [one["begins"] for one in TABLE["shown"] if not any(line.startswith(one["begins"]) for line in shown)]
    assert unused == []


def test_what_is_no_command_is_yaml_or_python_or_listed() -> None:
    unknown = []
    for page, found in BLOCKS.items():
        for block in found:
            listed = any(block.lines[0].startswith(one["begins"]) for one in TABLE["shown"])
            if not block.is_shell and not listed and not _is_yaml(block.text) and not _is_python(block.text):
                unknown.append(f"{page}:{block.line}: {block.lines[0]}")
    assert unknown == []


def _is_yaml(text: str) -> bool:
    try:
        return isinstance(yaml.safe_load(text), dict)
    except yaml.YAMLError:
        return False


def _is_python(text: str) -> bool:
    try:
        ast.parse(text)
    except SyntaxError:
        return False
    return True


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("socket-owner compare --config configs/demo.yaml", ""),
        ("socket-owner compere", "No such command"),
        ("socket-owner compare --sedes 0", "No such option"),
        ("socket-owner train --out runs", "Missing option"),
        ("socket-owner compare --config configs/none.yaml", "no such file: configs/none.yaml"),
        ("make dmeo", "no target dmeo"),
        ("make demo SEEDS=1", "no variable SEEDS"),
        ("python scripts/update_tables.py --chek", "no option --chek"),
        ("flwr run . --steam", "No such option"),
        ("flwr run . --run-config 'confg=\"a\"'", "no key confg"),
    ],
)
def test_what_is_wrong_with_a_command_is_said(command: str, said: str) -> None:
    found = complaint(shlex.split(command))
    assert said in found if said else found == ""
