"""Writes and prints what a comparison found."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from server import report
from server.answers import answers
from server.compare import Plan, elapsed
from server.figures import draw
from server.html.page import page
from server.progress import Display
from server.results import Row, environment, read_results, write_results
from server.results_csv import csv_text
from socket_core.config import Experiment
from socket_core.data.catalogue import load_task
from socket_core.errors import ConfigError, FederationError
from socket_core.files import write_atomically

if TYPE_CHECKING:
    from rich.table import Table

SHOWN = 24
"""Notes below the table on a terminal: of a large grid there are hundreds."""


def publish(
    plan: Plan, rows: Sequence[Row], display: Display, *, command: str, started: float, show: bool = True
) -> None:
    """``results.json``, ``curves.png`` and the reports in the plan's folder, and the table on the terminal."""
    task = load_task(plan.experiment.data, cache=plan.cache)
    facts = environment(command) | {
        "seconds": round(time.monotonic() - started, 1),
        "modality": plan.experiment.data.modality,
        "classes": list(task.classes),
    }
    if named := plan.named():
        facts["variants"] = {label: settings_of(experiment) for label, experiment in named.items()}
    experiment = settings_of(plan.experiment)
    del experiment["method"]["name"]
    results = plan.home / "results.json"
    write_results(results, rows, experiment=experiment, facts=facts)
    draw(plan.home / "curves.png", rows, task, plan.experiment.data.modality)
    written = write_reports(results)
    if not show or display.console.quiet:
        return
    console = Console()
    table: Table = report.table(rows, _title(facts | {"experiment": experiment}))
    console.print(table)
    notes = _notes(rows, facts | {"experiment": experiment})
    more = len(notes) - SHOWN
    if more > 0:  # the last one is on privacy
        notes = [*notes[: SHOWN - 1], f"{more} more notes are in report.md", notes[-1]]
    for note in notes:
        console.print(f"  {note}", markup=False, highlight=False)
    for path in (results, *written, plan.home / "curves.png"):
        console.print(f"  {path}", markup=False, highlight=False, soft_wrap=True)
    display.say(f"took {elapsed(started)}")


def write_reports(results: Path, out: Path | None = None) -> tuple[Path, Path, Path]:
    """The page, its Markdown and the rows as CSV, made from a results file alone.

    Args:
        results: The file. ``curves.png`` beside it goes into the page.
        out: The page; default ``report.html`` beside ``results``. Markdown has its name with another ending, and the
            CSV that of ``results``, in the same folder.

    Returns:
        What was written.

    Raises:
        FederationError: If the results cannot be read, or hold no row.
        ConfigError: If ``out`` does not end in ``.html``.
    """
    page_file = out if out is not None else results.with_name("report.html")
    if page_file.suffix != ".html":
        raise ConfigError(f"expected a name that ends in .html, found {page_file.name!r}", where="--out")
    rows, facts = read_results(results)
    if not rows:
        raise FederationError("no rows to report on", where=str(results), remedy="run socket-owner compare again")
    title, picture = _title(facts), results.with_name("curves.png")
    image = picture.read_bytes() if picture.is_file() else None
    notes = "".join(f"- {note}\n" for note in _notes(rows, facts))
    text = f"# {title}\n\n`{facts.get('command', '')}`\n\n{report.markdown(rows)}\n{notes}"
    contents = {
        page_file: page(rows, facts, title=title, image=image),
        page_file.with_suffix(".md"): text,
        page_file.with_name(f"{results.stem}.csv"): csv_text(rows),
    }
    for path, content in contents.items():
        write_atomically(path, content.encode())
    first, second, third = contents
    return first, second, third


def _title(facts: Mapping[str, Any]) -> str:
    return f"RGB to {facts.get('modality', 'target')}: {facts.get('experiment', {}).get('name', 'comparison')}"


def _notes(rows: Sequence[Row], facts: Mapping[str, Any]) -> list[str]:
    """The answer in three sentences, then what stands behind it."""
    notes = [*answers(rows, facts), *report.gap_closed(rows), *report.steps_up(rows), *_bytes(rows)]
    return [*notes, *report.collapses(rows), *report.privacy(rows)]


def settings_of(experiment: Experiment) -> dict[str, Any]:
    """What a reader has to know: all but the seed, which is a column, and where files lie on this machine."""
    return experiment.model_dump(
        mode="json", exclude={"seed": True, "data": {"root", "ti_root"}, "network": {"weights"}}
    )


def _bytes(rows: Sequence[Row]) -> list[str]:
    """What travels in a federation of the last row that trains."""
    federated = [r for r in rows if r.mode == "federated" and r.steps > 0]
    if not federated:
        return []
    last = federated[-1]
    release = max(r.release_bytes for r in rows)  # sites keep it: later federations of a seed send none
    return [
        f"{last.label}, federated: {last.bytes_up / last.rounds / 1e6:.2f} MB up and "
        f"{last.bytes_down / last.rounds / 1e6:.2f} MB down a round, all sites together; "
        f"the release once, {release / 1e6:.2f} MB"
    ]
