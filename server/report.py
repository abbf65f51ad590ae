"""The table of a comparison, for the terminal and as Markdown."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table

from server.results import Mode, Row, mean_and_spread

MODES: tuple[Mode, ...] = ("local", "federated", "centralised")
HEADINGS = ("method", "each site alone", "federated", "centralised")
TESTED_ON = (
    "Accuracy in % on the common held-out target set. Each site alone and federated: mean over the sites "
    "(worst site in brackets), each with its own BatchNorm where that is local. "
    "± is the standard deviation over seeds."
)


def cell_text(rows: Sequence[Row]) -> str:
    """Mean, spread over seeds and worst site of one method in one mode, in per cent."""
    if not rows:
        return "-"
    mean, spread = mean_and_spread([100 * r.accuracy for r in rows])
    text = f"{mean:.1f}" + (f" ± {spread:.1f}" if spread is not None else "")
    if rows[0].mode in ("local", "federated"):
        worst, _ = mean_and_spread([100 * r.worst_site for r in rows])
        text += f" ({worst:.1f})"
    return text + (" collapsed" if any(r.collapsed for r in rows) else "")


def table_lines(rows: Sequence[Row]) -> list[tuple[str, ...]]:
    """The table's lines as text, methods in the order of the rows."""
    lines = []
    for method in dict.fromkeys(row.method for row in rows):
        own = [r for r in rows if r.method == method]
        name = f"{method} (uses target labels)" if any(r.oracle for r in own) else method
        if unadapted := [r for r in own if r.mode == "unadapted"]:
            # One model, whoever holds it: the figure belongs to all three columns.
            lines.append((name, *[cell_text(unadapted)] * 3))
        else:
            lines.append((name, *(cell_text([r for r in own if r.mode == mode]) for mode in MODES)))
    return lines


def table(rows: Sequence[Row], title: str) -> Table:
    """For the terminal."""
    out = Table(title=title, caption=TESTED_ON, caption_justify="left")
    for i, heading in enumerate(HEADINGS):
        out.add_column(heading, justify="left" if i == 0 else "right")
    for line in table_lines(rows):
        out.add_row(*line)
    return out


def markdown(rows: Sequence[Row]) -> str:
    """As a Markdown table with its caption."""
    lines = [HEADINGS, ("---", "---:", "---:", "---:"), *table_lines(rows)]
    body = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    return f"{body}\n\n{TESTED_ON}\n"


def gap_closed(rows: Sequence[Row]) -> list[str]:
    """Sentences on the share of the gap from unadapted to the oracle that each method closes, all seeds together."""
    by = {(r.method, r.mode): [x.accuracy for x in rows if (x.method, x.mode) == (r.method, r.mode)] for r in rows}
    low, high = by.get(("unadapted", "unadapted")), by.get(("oracle", "centralised"))
    if low is None or high is None:
        return []
    floor, gap = mean_and_spread(low)[0], mean_and_spread(high)[0] - mean_and_spread(low)[0]
    if gap <= 0:
        return ["The oracle is not above the unadapted model: there is no gap to close."]
    out = []
    for (method, mode), values in by.items():
        if mode in ("federated", "centralised") and method != "oracle":
            share = (mean_and_spread(values)[0] - floor) / gap
            out.append(f"{method}, {mode}: closes {share:.0%} of the gap from unadapted to supervised")
    return out
