"""The parts of ``report.md`` below the table and its notes: rounds, sites, examples and privacy in words."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from server import equal_rounds
from server.example_votes import MEANING, asked, votes, word
from server.examples import RULE
from server.privacy_statement import statement
from server.report import padded_curves, row_name
from server.results import MODES, Mode, Row


def sections(rows: Sequence[Row], facts: Mapping[str, Any]) -> str:
    """All parts for which the results file has something, as Markdown.

    Args:
        rows: Of a comparison.
        facts: The rest of the results file.
    """
    parts = {
        "At equal rounds": _equal(rows, facts),
        "Accuracy by round": _rounds(rows),
        "Sites": _sites(rows, facts),
        "Examples": _examples(rows, facts),
        "Privacy": _privacy(rows),
    }
    return "\n".join(f"## {name}\n\n{text}" for name, text in parts.items() if text)


def markdown_table(head: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """A table whose first column is text and whose others are figures; what would end a cell is escaped."""
    whole = [head, ["---", *["---:"] * (len(head) - 1)], *lines]
    return "".join("| " + " | ".join(_cell(c) for c in line) + " |\n" for line in whole)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _equal(rows: Sequence[Row], facts: Mapping[str, Any]) -> str:
    found = equal_rounds.at_equal_rounds(rows, facts)
    if not found:
        return ""
    return f"{markdown_table(equal_rounds.HEADINGS, equal_rounds.lines(found))}\n{equal_rounds.MEANING}\n"


def _rounds(rows: Sequence[Row]) -> str:
    groups = [
        (label, mode, [r for r in rows if (r.label, r.mode) == (label, mode)])
        for label, mode in dict.fromkeys((r.label, r.mode) for r in rows if r.mode != "unadapted")
    ]
    if not groups:
        return ""
    end = max(len(r.curve) for _, _, own in groups for r in own)
    lines = []
    for label, mode, own in groups:
        means = [f"{100 * sum(column) / len(own):.1f}" for column in zip(*padded_curves(own), strict=True)]
        lines.append([row_name(label, mode), *means, *["-"] * (end - len(means))])
    head = ("row", "before", *(f"round {i}" for i in range(1, end)))
    return (
        f"{markdown_table(head, lines)}\nHeld-out accuracy in %, mean over the seeds. Centralised runs as many steps a "
        "round as all sites together.\n"
    )


def _sites(rows: Sequence[Row], facts: Mapping[str, Any]) -> str:
    places: dict[tuple[str, int, str], dict[Mode, Any]] = {}
    for r in rows:
        for place in r.by_site:
            places.setdefault((r.label, r.seed, place.site), {})[r.mode] = place
    if not places:
        return ""
    lines = []
    for (label, seed, site), of_mode in sorted(places.items(), key=lambda item: _order(rows, item[0])):
        accuracies = [f"{100 * of_mode[m].accuracy:.1f}" if m in of_mode else "-" for m in MODES[:2]]
        images = next(iter(of_mode.values())).images
        lines.append([f"{label}, seed {seed}, {site}", *accuracies, str(sum(images)), " ".join(map(str, images))])
    classes = ", ".join(facts.get("classes", [])) or "in their order"
    return (
        f"{markdown_table(('row, seed, site', 'alone', 'federated', 'images', 'by class'), lines)}\nHeld-out accuracy "
        f"in % of each site's model, and the site's images by class ({classes}), which are known because sites are "
        "simulated. A site's name stands for other images with each seed.\n"
    )


def _order(rows: Sequence[Row], key: tuple[str, int, str]) -> tuple[int, int, str]:
    labels = list(dict.fromkeys(r.label for r in rows))
    return labels.index(key[0]), key[1], key[2]


def _examples(rows: Sequence[Row], facts: Mapping[str, Any]) -> str:
    known, classes = facts.get("examples"), facts.get("classes", [])
    if not known or not asked(rows):
        return ""
    labels: list[int] = known["labels"]
    lines = []
    for label, by_mode in asked(rows):
        for mode, own in by_mode.items():
            said = [votes(own, i, k) for i, k in enumerate(labels)]
            cells = [f"{word(v, classes)} {v.right}/{v.models}" if v is not None else "-" for v in said]
            lines.append([row_name(label, mode), *cells])
    head = ("row", *(f"{i + 1}: {classes[k]}" for i, k in enumerate(labels)))
    made = f"; translated by the translator of {known['translator']}" if known.get("translator") else ""
    return (
        f"`examples.png`: a line for each example, {' | '.join(known['columns'])}{made}. Chosen by a rule that "
        f"knows no result: {known.get('rule', RULE)}.\n\n{markdown_table(head, lines)}\n{MEANING}\n"
    )


def _privacy(rows: Sequence[Row]) -> str:
    return "\n".join(
        lead + "\n" + "".join(f"\n- {item}" for item in items) + "\n" * bool(items) for lead, items in statement(rows)
    )
