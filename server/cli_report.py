"""``socket-owner report``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def report(
    results: Annotated[Path, typer.Argument(metavar="RESULTS.json", help="What socket-owner compare wrote.")],
    out: Annotated[
        Path | None, typer.Option("--out", help="The page; default report.html beside RESULTS.json.")
    ] = None,
) -> None:
    """Make the page, its Markdown and the rows as CSV again, from a results file alone.

    Example: socket-owner report runs/demo/results.json
    """
    from server.comparison_report import write_reports

    for path in write_reports(results, out):
        print(path)


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command()(report)
