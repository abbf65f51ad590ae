"""Bars by site: at their values, site by site, never averaged over seeds."""

from __future__ import annotations

from dataclasses import replace

import pytest

from server.by_site import AtSite
from server.html.page import page
from server.html.sites import DRAWN, by_site
from server.html.svg import Frame
from server.results import Mode, Row
from tests.server.html_reader import Node, read
from tests.server.rows import row

CLASSES = ["a", "b"]


def _site(i: int, accuracy: float, images: tuple[int, int] = (3, 1), own: float | None = 0.25) -> AtSite:
    return AtSite(f"site-{i:02d}", accuracy, own, images, (7, 1))


def _row(mode: Mode, *places: AtSite, seed: int = 0, label: str = "socket") -> Row:
    return row("socket", mode, seed, label=label, by_site=places)


ROWS = [
    _row("local", _site(0, 0.25), _site(1, 0.5, (0, 4))),
    _row("federated", _site(0, 0.5), _site(1, 1.0, (0, 4), None)),
    row("socket", "centralised", accuracy=0.75),
    row("unadapted", "unadapted", accuracy=0.125),
]


def _drawn(rows: list[Row]) -> Node:
    return read("".join(map(str, by_site(rows, CLASSES) or [])))


def test_a_bar_ends_at_its_sites_accuracy_and_levels_are_beside_it() -> None:
    picture = _drawn(ROWS).by_id("sites-0-0")
    frame = Frame(140, 0, 306, 1)
    bars = [n for n in picture.all("rect") if n.attributes["class"].startswith("bar")]
    ends = [float(n.attributes["x"]) + float(n.attributes["width"]) for n in bars]
    assert [n.attributes["class"] for n in bars] == ["bar local", "bar federated"] * 2
    assert ends == pytest.approx([frame.x(25), frame.x(50), frame.x(50), frame.x(100)])
    levels = {
        n.attributes["class"]: float(n.attributes["x1"]) for n in picture.all("line") if "line" in n.attributes["class"]
    }
    assert levels == pytest.approx({"line centralised": frame.x(75), "line unadapted": frame.x(12.5)})
    # Modes differ in shape too: a triangle for a site alone, a circle for federated.
    shapes = [(n.tag, n.attributes["class"]) for n in picture.all("polygon", "circle")]
    assert shapes == [("polygon", "mark local"), ("circle", "mark federated")] * 2


def test_classes_of_a_site_are_cells_as_dark_as_their_share() -> None:
    cells = [n for n in _drawn(ROWS).by_id("sites-0-0").all("rect") if "heat" in n.attributes["class"]]
    assert [n.attributes["class"] for n in cells] == ["heat heat-4", "heat heat-2", "heat heat-0", "heat heat-4"]
    assert [next(n.all("title")).text() for n in cells] == ["a: 3 of 4", "b: 1 of 4", "a: 0 of 4", "b: 4 of 4"]


def test_all_of_it_is_in_tables() -> None:
    tree = _drawn(ROWS)
    assert tree.by_id("sites-0-data").cells() == [
        ["socket, site-00", "4", "25.0", "50.0", "25.0", "25.0"],
        ["socket, site-01", "4", "50.0", "100.0", "25.0", "-"],
    ]
    assert tree.by_id("sites-0-images").cells() == [["site-00", "3", "1"], ["site-01", "0", "4"]]
    assert tree.by_id("sites-0-predicted").cells()[0] == ["socket, each site alone, site-00", "7", "1"]
    assert len(tree.by_id("sites-0-predicted").cells()) == 4


def test_a_variant_with_other_shares_has_its_own_lines() -> None:
    rows = [*ROWS, _row("federated", _site(0, 0.5, (1, 3)), label="even")]
    tree = _drawn(rows)
    assert tree.by_id("sites-0-images").cells() == [
        ["site-00, even", "1", "3"],
        ["site-00, socket", "3", "1"],
        ["site-01, socket", "0", "4"],
    ]
    assert tree.by_id("sites-0-data").cells()[-1] == ["even, site-00", "4", "-", "50.0", "-", "25.0"]


def test_seeds_have_figures_of_their_own_and_the_others_are_folded_away() -> None:
    rows = [*ROWS, *(replace(r, seed=3) for r in ROWS)]
    first, others = by_site(rows, CLASSES) or []
    assert [n.attributes["id"] for n in read(str(first)).all("figure")] == ["sites-0"]
    folded = next(read(str(others)).all())
    assert folded.tag == "details"
    assert [n.attributes["id"] for n in folded.all("figure")] == ["sites-3"]
    assert "The same with seed 3" in folded.text()


def test_many_sites_are_cut_in_the_picture_and_whole_in_the_table() -> None:
    many = [_site(i, 0.5) for i in range(DRAWN + 3)]
    tree = _drawn([_row("federated", *many)])
    assert len([n for n in tree.all("rect") if n.attributes["class"] == "bar federated"]) == DRAWN
    assert len(tree.by_id("sites-0-data").cells()) == DRAWN + 3
    assert f"The first {DRAWN} of {DRAWN + 3} sites by name" in tree.text()


def test_a_page_without_sites_has_no_section_of_them() -> None:
    assert by_site([row("socket")], CLASSES) is None
    assert "by-site" not in page([row("socket")], {}, title="t")
    assert 'id="by-site"' in page(ROWS, {"classes": CLASSES}, title="t")
