"""Commands of the documentation held against the programs themselves, without running them."""

from __future__ import annotations

import re
import shlex
import tomllib
import warnings

import click
import typer

from tests.docs.markdown import ROOT
from tests.docs.sandbox import APPS


def complaint(words: list[str], *, whole: bool = True) -> str:
    """What is wrong with a command; empty if nothing is known to be.

    Args:
        words: Program and arguments.
        whole: Whether all that the command needs has to be there; in running text only its name and options may.
    """
    program, arguments = words[0], words[1:]
    for word in arguments:
        for path in word.split(",") if word.startswith("configs/") else ():
            if not (ROOT / path).exists():
                return f"no such file: {path}"
    if program in APPS:
        return _of_click(typer.main.get_command(APPS[program]), arguments, whole)
    if program == "make":
        return _of_make(arguments)
    if program == "python":
        return _of_script(arguments)
    return _of_flower(arguments, whole) if program == "flwr" else ""


def _of_click(command: click.Command, arguments: list[str], whole: bool) -> str:
    context = click.Context(command, info_name=command.name)
    try:
        while isinstance(command, click.Group):
            if not arguments:
                return ""
            _, found, arguments = command.resolve_command(context, arguments)
            assert found is not None
            command = found
        if whole:
            command.make_context(command.name, list(arguments), parent=context)
    except click.ClickException as error:
        return error.format_message()
    known = {option for parameter in command.params for option in parameter.opts}
    unknown = [word for word in arguments if word.startswith("--") and word not in known]
    return f"No such option: {unknown[0]}" if unknown else ""


def _of_make(arguments: list[str]) -> str:
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = re.findall(r"^([a-z0-9-]+):", text, flags=re.MULTILINE)
    variables = re.findall(r"^([A-Z_]+) [?:]?=", text, flags=re.MULTILINE)
    for word in arguments:
        if re.match(r"[A-Z_]+=", word):
            if (name := word.split("=")[0]) not in variables:
                return f"no variable {name}"
        elif word not in targets:
            return f"no target {word}"
    return ""


def _of_script(arguments: list[str]) -> str:
    if not arguments:
        return ""
    if arguments[0] == "-m" and len(arguments) > 1:  # a package that can be run, and its arguments
        arguments = [f"{arguments[1].replace('.', '/')}/__main__.py", *arguments[2:]]
    script = ROOT / arguments[0]
    if not script.is_file():
        return f"no such file: {arguments[0]}"
    text = script.read_text(encoding="utf-8")
    unknown = [word for word in arguments[1:] if word.startswith("--") and f'"{word}"' not in text]
    return f"no option {unknown[0]}" if unknown else ""


def _of_flower(arguments: list[str], whole: bool) -> str:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Flower's use of typer
        from flwr.cli.app import app

        command = typer.main.get_command(app)
    if wrong := _of_click(command, arguments, whole):
        return wrong
    if "--run-config" in arguments:
        known = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["flwr"]["app"]["config"]
        pairs = shlex.split(arguments[arguments.index("--run-config") + 1])
        unknown = [name for name in (pair.split("=")[0] for pair in pairs) if name not in known]
        return f"no key {unknown[0]}" if unknown else ""
    return ""
