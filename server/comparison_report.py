"""Writes and prints what a comparison found."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console

from server import report
from server.compare import Plan, elapsed
from server.figures import draw
from server.progress import Display
from server.results import Row, environment, write_results
from socket_core.config import Experiment
from socket_core.data.catalogue import load_task
from socket_core.files import write_atomically

if TYPE_CHECKING:
    from rich.table import Table


def publish(
    plan: Plan, rows: Sequence[Row], display: Display, *, command: str, started: float, show: bool = True
) -> None:
    """``results.json``, ``report.md`` and ``curves.png`` in the plan's folder, and the table on the terminal."""
    task = load_task(plan.experiment.data, cache=plan.cache)
    facts = environment(command) | {
        "seconds": round(time.monotonic() - started, 1),
        "modality": plan.experiment.data.modality,
        "classes": list(task.classes),
    }
    if plan.variants:
        facts["variants"] = {v.name: settings_of(v) for v in plan.variants}
    experiment = settings_of(plan.experiment)
    del experiment["method"]["name"]
    write_results(plan.home / "results.json", rows, experiment=experiment, facts=facts)
    title = f"RGB to {plan.experiment.data.modality}: {plan.experiment.name}"
    notes = [*report.gap_closed(rows), *report.steps_up(rows), *_bytes(rows), *report.collapses(rows)]
    notes += report.privacy(rows)
    text = f"# {title}\n\n`{command}`\n\n{report.markdown(rows)}\n" + "".join(f"- {note}\n" for note in notes)
    write_atomically(plan.home / "report.md", text.encode())
    draw(plan.home / "curves.png", rows, task, plan.experiment.data.modality)
    if not show or display.console.quiet:
        return
    console = Console()
    table: Table = report.table(rows, title)
    console.print(table)
    for note in notes:
        console.print(f"  {note}", markup=False, highlight=False)
    for name in ("results.json", "report.md", "curves.png"):
        console.print(f"  {plan.home / name}", markup=False, highlight=False, soft_wrap=True)
    display.say(f"took {elapsed(started)}")


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
