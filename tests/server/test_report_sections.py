"""The Markdown below the table: the same figures as on the page."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from server.by_site import AtSite
from server.examples import Said
from server.report_sections import markdown_table, sections
from server.results import read_results
from tests.server.rows import row

RESULTS = Path(__file__).resolve().parents[2] / "docs" / "results"
PLACE = AtSite("site-00", 0.25, 0.5, (3, 1), (4, 4))
FACTS = {
    "classes": ["cone", "cube"],
    "experiment": {"federation": {"sites": 1}},
    "examples": {"rule": "r", "indices": [0], "labels": [1], "columns": ["depth"]},
}
ROWS = [
    row("socket", "local", by_site=(PLACE,), steps=2),
    row("socket", by_site=(replace(PLACE, accuracy=0.5),), rounds=2, steps=2, said=(Said("site-00", (1,), (0.5,)),)),
    row("socket", "centralised", rounds=2, steps=2, said=(Said("", (0,), (0.5,)),)),
]


def test_all_parts_are_there_with_their_figures() -> None:
    text = sections(ROWS, FACTS)
    assert [line for line in text.splitlines() if line.startswith("## ")] == [
        "## At equal rounds",
        "## Accuracy by round",
        "## Sites",
        "## Examples",
        "## Privacy",
    ]
    for line in (
        "| socket | 50.0 (round 2) | 50.0 (round 2) | +0.0 points (one seed: its noise is not known) |",
        "| socket, federated | 10.0 | 20.0 | 50.0 |",
        "| socket, seed 0, site-00 | 25.0 | 50.0 | 4 | 3 1 |",
        "| row | 1: cube |",
        "| socket, federated | cube 1/1 |",
        "| socket, centralised | cone 0/1 |",
        "- No differential privacy where no epsilon is named: there it is unbounded.",
    ):
        assert line in text.splitlines()


def test_what_the_file_does_not_hold_is_left_out() -> None:
    rows, facts = read_results(RESULTS / "demo.json")
    facts.pop("examples")
    text = sections([replace(r, by_site=(), said=()) for r in rows], facts)  # as before schema 3
    assert [line for line in text.splitlines() if line.startswith("## ")] == [
        "## At equal rounds",
        "## Accuracy by round",
        "## Privacy",
    ]
    assert [line for line in sections([row("unadapted", "unadapted")], {}).splitlines() if "## " in line] == [
        "## Privacy"
    ]


def test_a_label_ends_no_cell() -> None:
    assert markdown_table(("a", "b"), [["x|y\nz", "1"]]) == "| a | b |\n| --- | ---: |\n| x\\|y z | 1 |\n"
