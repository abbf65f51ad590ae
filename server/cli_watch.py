"""``socket-owner watch`` and ``tensorboard``."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Annotated

import typer


def watch(
    folder: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of runs, or of one.")],
    once: Annotated[bool, typer.Option("--once", help="Look once and end.")] = False,
    every: Annotated[float, typer.Option(min=0.1, help="Seconds between two looks.")] = 2.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON on standard output, once.")] = False,
) -> None:
    """Show federations as they run: rounds, sites, who was left out and why, accuracy, bytes. Ctrl-C ends it.

    Example: socket-owner watch runs/demo
    """
    from rich.console import Console
    from rich.live import Live

    from server.watch import look, plain, screen

    found = look(folder)
    if as_json:
        print(json.dumps(plain(found)))
        return
    console = Console()
    if once or not console.is_terminal:
        console.print(screen(found))
        return
    with Live(screen(found), console=console, auto_refresh=False) as live:
        while True:
            time.sleep(every)
            live.update(screen(look(folder)), refresh=True)


def tensorboard(
    folder: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of runs, or of one.")],
    out: Annotated[Path, typer.Option("--out", help="Log folder; one folder below it for each federation.")],
) -> None:
    """Write accuracy, worst site, sites, bytes and seconds of each round for TensorBoard; again after more rounds.

    Needs the extra: uv pip install 'socket-fl[tensorboard]'.

    Example: socket-owner tensorboard runs/demo --out logs, then tensorboard --logdir logs
    """
    from server.tensorboard_log import write_logs

    for path, rounds in write_logs(folder, out):
        print(f"{path}: {rounds} rounds")


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    app.command()(watch)
    app.command()(tensorboard)
