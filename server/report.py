"""The table of a comparison, for the terminal and as Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from rich.table import Table

from server.differences import of_steps
from server.results import MODES, Mode, Row, mean_and_spread

HEADINGS = ("method", "each site alone", "federated", "centralised")
MODE_NAMES: dict[Mode, str] = {
    "local": "each site alone",
    "federated": "federated",
    "centralised": "centralised",
    "unadapted": "unadapted",
}
TESTED_ON = (
    "Accuracy in % on the common held-out target set. Each site alone and federated: mean over the sites "
    "(worst site in brackets), each with its own BatchNorm where that is local. "
    "± is the standard deviation over seeds."
)


class Cell(NamedTuple):
    """What the table says of one label in one mode, in per cent.

    Attributes:
        mean: Over the seeds.
        spread: Standard deviation over them; None for a single one.
        worst: Of the worst site, mean over the seeds; None where there is one model.
        collapsed: Whether a model of any seed predicts few classes.
    """

    mean: float
    spread: float | None
    worst: float | None
    collapsed: bool

    def figures(self) -> str:
        """Mean and spread."""
        return f"{self.mean:.1f}" + (f" ± {self.spread:.1f}" if self.spread is not None else "")


def cell(rows: Sequence[Row]) -> Cell | None:
    """The cell of the rows of one label in one mode; None without any."""
    if not rows:
        return None
    mean, spread = mean_and_spread([100 * r.accuracy for r in rows])
    several = rows[0].mode in ("local", "federated")
    worst = mean_and_spread([100 * r.worst_site for r in rows])[0] if several else None
    return Cell(mean, spread, worst, any(r.collapsed for r in rows))


def cell_text(found: Cell | None) -> str:
    """Mean, spread over seeds and worst site as text."""
    if found is None:
        return "-"
    worst = f" ({found.worst:.1f})" if found.worst is not None else ""
    return found.figures() + worst + (" collapsed" if found.collapsed else "")


def cells(rows: Sequence[Row]) -> list[tuple[str, tuple[Cell | None, ...]]]:
    """The table: a name and the cells of the modes for each method or variant, in the order of the rows."""
    lines: list[tuple[str, tuple[Cell | None, ...]]] = []
    for label in dict.fromkeys(row.label for row in rows):
        own = [r for r in rows if r.label == label]
        name = f"{label} (uses target labels)" if any(r.oracle for r in own) else label
        if unadapted := [r for r in own if r.mode == "unadapted"]:
            # One model, whoever holds it: the figure belongs to all three columns.
            lines.append((name, (cell(unadapted),) * 3))
        else:
            lines.append((name, tuple(cell([r for r in own if r.mode == mode]) for mode in MODES)))
    return lines


def table_lines(rows: Sequence[Row]) -> list[tuple[str, ...]]:
    """The table's lines as text."""
    return [(name, *map(cell_text, found)) for name, found in cells(rows)]


def table(rows: Sequence[Row], title: str) -> Table:
    """For the terminal."""
    out = Table(title=title, caption=TESTED_ON, caption_justify="left")
    for i, heading in enumerate(HEADINGS):
        out.add_column(heading, justify="left" if i == 0 else "right")
    for line in table_lines(rows):
        out.add_row(*line)
    return out


def row_name(label: str, mode: Mode) -> str:
    """What tables call a row."""
    return label if mode == "unadapted" else f"{label}, {MODE_NAMES[mode]}"


def markdown(rows: Sequence[Row]) -> str:
    """As a Markdown table with its caption."""
    lines = [HEADINGS, ("---", "---:", "---:", "---:"), *table_lines(rows)]
    body = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    return f"{body}\n\n{TESTED_ON}\n"


def gap_closed(rows: Sequence[Row]) -> list[str]:
    """Sentences on the share of the gap from unadapted to the oracle that each method closes, all seeds together."""
    by = {(r.label, r.mode): [x.accuracy for x in rows if (x.label, x.mode) == (r.label, r.mode)] for r in rows}
    low, high = by.get(("unadapted", "unadapted")), by.get(("oracle", "centralised"))
    if low is None or high is None:
        return []
    floor, gap = mean_and_spread(low)[0], mean_and_spread(high)[0] - mean_and_spread(low)[0]
    if gap <= 0:
        return ["The oracle is not above the unadapted model: there is no gap to close."]
    out, bounds = [], {r.label for r in rows if r.oracle}
    for (label, mode), values in by.items():
        if mode in ("federated", "centralised") and label not in bounds:
            share = (mean_and_spread(values)[0] - floor) / gap
            out.append(f"{label}, {mode}: closes {share:.0%} of the gap from unadapted to supervised")
    return out


def steps_up(rows: Sequence[Row]) -> list[str]:
    """Sentences on how far each plain method is above the one before it in the table, bounds left out."""
    return [f"{a} - {b}, {mode}: {found.text()}" for (a, mode), (b, _), found in of_steps(rows)]


def padded_curves(rows: Sequence[Row]) -> list[list[float]]:
    """Curves of several seeds, all as long as the longest: where patience ended a job, its last accuracy stays."""
    longest = max(len(row.curve) for row in rows)
    return [[*row.curve, *row.curve[-1:] * (longest - len(row.curve))] for row in rows]


def collapses(rows: Sequence[Row]) -> list[str]:
    """A warning for each row in which a model predicts few classes, whatever its accuracy says."""
    out = []
    for r in (r for r in rows if r.collapsed):
        entropy = f", entropy {r.prediction_entropy:.2f} of 1" if r.prediction_entropy is not None else ""
        out.append(
            f"warning: {r.label}, {r.mode}, seed {r.seed} collapsed: "
            f"{r.classes_predicted} of {len(r.confusion)} classes predicted{entropy}"
        )
    return out


def privacy(rows: Sequence[Row]) -> list[str]:
    """What may be said about privacy: each epsilon with its unit where there is one, else that there is none."""
    # Seeds differ where rounds were done again: the one that spent most stands for all.
    ordered = sorted(rows, key=lambda row: row.site_epsilon or 0.0)
    by = {(row.label, row.mode): row for row in rows} | {(row.label, row.mode): row for row in ordered}
    out = []
    for (label, mode), row in by.items():
        if row.epsilon is not None:
            out.append(
                f"{label}, {mode}: epsilon {row.epsilon:.2f} for the whole job at each site ({row.epsilon_unit}); "
                "task-relevant images are not covered"
            )
        if row.site_epsilon is not None:
            out.append(
                f"{label}, {mode}: epsilon {row.site_epsilon:.2f} for all global models of the job "
                f"({row.site_epsilon_unit}); scores of simulated sites are not covered"
            )
        if row.epsilon is not None and row.site_epsilon is not None:
            out.append(f"{label}, {mode}: the two epsilons are of different units and must not be added.")
    if any(row.epsilon is None and row.site_epsilon is None and row.steps for row in rows):
        out.append("No differential privacy where no epsilon is named: there it is unbounded.")
    return out
