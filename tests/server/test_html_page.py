"""The page: of one piece, in order for a screen reader, with the report's own figures, and nobody else's markup."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from server import report
from server.answers import answers
from server.by_site import AtSite
from server.examples import Said
from server.html.page import page
from server.results import Row, read_results, row_from
from tests.server.html_reader import Node, read
from tests.server.rows import row

RESULTS = Path(__file__).resolve().parents[2] / "docs" / "results"
HOSTILE = '"><script>alert(1)</script><img src=x onerror=alert(2)>&amp;\x00'
FILES = ("demo", "privacy", "drift")
FULL = "with sites and an example"


@pytest.fixture(scope="module", params=(*FILES, FULL))
def made(request: pytest.FixtureRequest) -> tuple[str, list[Any], dict[str, Any]]:
    """A page with rows and facts behind it."""
    rows, facts = read_results(RESULTS / f"{'demo' if request.param == FULL else request.param}.json")
    if request.param == FULL:
        rows, facts = _told(rows, "site"), facts | {"examples": _one_example("RGB")}
    return page(rows, facts, title="RGB to depth: x", image=b"\x89PNG", strips=[b"\x89PNG"]), rows, facts


def _told(rows: list[Row], name: str) -> list[Row]:
    """Rows with two sites where there is a model for each, and an answer to one example."""
    said = (Said("", (0,), (0.5,)),)
    counts = tuple(range(len(rows[0].confusion)))
    sites = tuple(AtSite(f"{name}{i}", 0.5, None, counts, counts) for i in range(2))
    return [replace(r, said=said, by_site=sites if r.mode in ("local", "federated") else ()) for r in rows]


def _one_example(word: str) -> dict[str, Any]:
    return {"rule": word, "indices": [0], "labels": [1], "columns": [word], "translator": word, "sha256": word}


def test_nothing_comes_from_elsewhere_and_no_script_runs(made: tuple[str, list[Any], dict[str, Any]]) -> None:
    tree = read(made[0])
    assert made[0].startswith('<!DOCTYPE html>\n<html lang="en">')
    assert not list(tree.all("script", "link", "iframe", "object", "embed", "base", "form", "use", "image"))
    for node in tree.all():
        assert not [name for name in node.attributes if name.startswith("on")]
        assert node.attributes.get("href", "#").startswith("#")
        assert node.attributes.get("src", "data:image/png;base64,").startswith("data:image/png;base64,")
    (style,) = tree.all("style")
    assert not re.search(r"url\(|@import|@font-face|http", style.text())
    policy = next(n for n in tree.all("meta") if n.attributes.get("http-equiv") == "Content-Security-Policy")
    assert policy.attributes["content"].startswith("default-src 'none';")


def test_ids_are_unique_and_all_that_are_named_exist(made: tuple[str, list[Any], dict[str, Any]]) -> None:
    tree = read(made[0])
    ids = [node.attributes["id"] for node in tree.all() if "id" in node.attributes]
    assert len(set(ids)) == len(ids)
    for node in tree.all():
        for key in ("aria-labelledby", "aria-describedby"):
            assert set(node.attributes.get(key, "").split()) <= set(ids)
        if "href" in node.attributes:
            assert node.attributes["href"][1:] in ids


def test_a_screen_reader_finds_its_way(made: tuple[str, list[Any], dict[str, Any]]) -> None:
    tree = read(made[0])
    (title,) = (node for head in tree.all("head") for node in head.all("title"))
    (heading,) = tree.all("h1")
    assert title.text() == heading.text() == "RGB to depth: x"
    assert {n.tag for n in tree.all("h1", "h2", "h3", "h4")} == {"h1", "h2"}
    assert [len(list(tree.all(tag))) for tag in ("main", "header", "nav", "footer")] == [1, 1, 1, 1]
    for table in tree.all("table"):
        (caption,) = table.all("caption")
        assert caption.text()
        assert all(th.attributes["scope"] in ("col", "row") for th in table.all("th"))
        widths = {len(list(line.all("th", "td"))) for line in table.all("tr")}
        assert len(widths) == 1
    for box in (n for n in tree.all("div") if n.attributes.get("class") == "scroll"):
        assert box.attributes["tabindex"] == "0"  # what scrolls can be reached by keyboard
    (image,) = tree.all("img")
    assert len(image.attributes["alt"]) > 20
    for svg in tree.all("svg"):
        if svg.attributes.get("aria-hidden") != "true":
            assert svg.attributes["role"] == "img"
            assert next(svg.all("title")).text()
            assert next(svg.all("desc")).text()


def test_every_figure_has_what_it_shows_as_a_table(made: tuple[str, list[Any], dict[str, Any]]) -> None:
    drawn = [f for f in read(made[0]).all("figure") if list(f.all("svg"))]
    assert len(drawn) >= 5
    for figure in drawn:
        (caption,) = figure.all("figcaption")
        (details,) = figure.all("details")
        assert caption.text()
        assert all(table.cells() for table in details.all("table"))
        assert list(details.all("table"))


def test_the_answer_is_three_sentences(made: tuple[str, list[Any], dict[str, Any]]) -> None:
    text, rows, facts = made
    said = [p.text() for n in read(text).all("div") if n.attributes.get("class") == "answer" for p in n.all("p")]
    assert said == list(answers(rows, facts))


def test_the_tables_hold_the_figures_of_the_report(made: tuple[str, list[Any], dict[str, Any]]) -> None:
    text, rows, _ = made
    tree = read(text)
    shown = [[_as_in_report(cell) for cell in line] for line in tree.by_id("accuracy-table").cells()]
    assert shown == [[name.replace("(", "").replace(")", ""), *cells] for name, *cells in report.table_lines(rows)]
    ends = {line[0]: line[1] for line in tree.by_id("ends-data").cells()}
    for r in rows:
        own = report.cell([x for x in rows if (x.label, x.mode) == (r.label, r.mode)])
        mode = {"local": ", each site alone", "unadapted": ""}.get(r.mode, f", {r.mode}")
        assert own is not None
        assert ends[r.label + mode] == own.figures()


def _as_in_report(cell: str) -> str:
    return re.sub(r" worst ([\d.]+)", r" (\1)", cell)


def test_equal_rounds_of_the_table_are_points_of_the_curves() -> None:
    rows, facts = read_results(RESULTS / "demo.json")
    line = next(
        line
        for line in _section(rows, "equal-rounds", facts).by_id("equal-rounds-table").cells()
        if line[0] == "socket"
    )
    own = {mode: [r for r in rows if (r.label, r.mode) == ("socket", mode)] for mode in ("federated", "centralised")}
    federated = [100 * r.curve[4] for r in own["federated"]]  # four sites: four rounds against one
    centralised = [100 * r.curve[1] for r in own["centralised"]]
    assert line[1].split(" ±")[0] == f"{sum(federated) / 3:.1f}"
    assert line[2].split(" ±")[0] == f"{sum(centralised) / 3:.1f}"
    assert (line[1].endswith("round 4"), line[2].endswith("round 1")) == (True, True)


def test_a_hostile_label_is_shown_as_text_everywhere() -> None:
    rows = [
        row("socket", mode, seed, label=HOSTILE, collapsed=True, epsilon=1.0, epsilon_unit=HOSTILE, partition=HOSTILE)
        for mode in ("federated", "centralised")
        for seed in (0, 1)
    ]
    facts = {
        "command": HOSTILE,
        "modality": HOSTILE,
        "classes": [HOSTILE, HOSTILE],
        "packages": {HOSTILE: HOSTILE},
        "variants": {HOSTILE: {"name": HOSTILE}},
        "device": HOSTILE,
    }
    text = page(rows, facts, title=HOSTILE, image=b"\x89PNG")
    tree = read(text)
    assert not list(tree.all("script"))
    assert len(list(tree.all("img"))) == 1
    assert not [n for n in tree.all() if any(name.startswith("on") for name in n.attributes)]
    assert "<script>alert(1)</script>" in next(tree.all("h1")).text()
    assert "\x00" not in text


def test_hostile_names_of_sites_and_examples_are_text_too() -> None:
    rows = _told([row("socket", mode, label=HOSTILE) for mode in ("local", "federated")], HOSTILE)
    facts = {"classes": [HOSTILE, HOSTILE], "examples": _one_example(HOSTILE)}
    tree = read(page(rows, facts, title="t", strips=[b"\x89PNG"]))
    assert not list(tree.all("script"))
    assert len(list(tree.all("img"))) == 1
    assert not [n for n in tree.all() if any(name.startswith("on") for name in n.attributes)]
    for id_ in ("by-site", "examples"):
        assert "<script>alert(1)</script>" in tree.by_id(id_).text()


def test_one_row_with_nothing_else_known_makes_a_page() -> None:
    tree = read(page([row("unadapted", "unadapted")], {}, title="t"))
    assert "cannot be said" in tree.by_id("answer").text()
    assert not list(tree.all("img"))
    assert not [n for n in tree.all("section") if n.attributes["id"] in ("by-round", "by-bytes", "by-epsilon")]


def test_collapsed_rows_and_bounds_are_named_beside_the_answer() -> None:
    rows = [
        row("shot", seed=0),
        row("shot", seed=1, collapsed=True, classes_predicted=1, prediction_entropy=0.1),
        row("oracle", "centralised", oracle=True),
    ]
    (warnings,) = (n for n in read(page(rows, {}, title="t")).all("ul") if n.attributes.get("class") == "warnings")
    assert [item.text() for item in warnings.all("li")] == [
        "shot, federated collapsed in seed 1: 1 of 2 classes predicted, entropy 0.10 of 1",
        "oracle uses labels of target images: a bound, no result",
    ]


def test_privacy_is_said_with_unit_adjacency_and_what_is_not_covered() -> None:
    unit = "record-level: one task-irrelevant (RGB, target) pair; add or remove one pair; delta 1e-05"
    rows = [row("socket", steps=3, epsilon=2.99, epsilon_unit=unit), row("shot", steps=3)]
    said = _section(rows, "privacy").text()
    for words in (*report.privacy(rows), "Adjacency: add or remove one pair", "the site's task-relevant images"):
        assert words in said
    assert "add or remove one site" not in said
    assert "Not covered" not in _section([row("shot", steps=3)], "privacy").text()


def test_command_versions_and_settings_are_there() -> None:
    facts = {"command": "socket-owner compare --x", "packages": {"torch": "2"}, "experiment": {"name": "e"}, "cpus": 3}
    said = _section([row("socket", seed=7)], "measured", facts).text()
    for words in ("socket-owner compare --x", "torch 2", "seeds 7", "3 cores", '"name": "e"'):
        assert words in said


def _section(rows: list[Any], id_: str, facts: dict[str, Any] | None = None) -> Node:
    return read(page(rows, facts or {}, title="t")).by_id(id_)


def test_rows_as_json_are_all_that_a_page_needs_to_be_the_same_again() -> None:
    rows, facts = read_results(RESULTS / "demo.json")
    again = [row_from(json.loads(json.dumps(asdict(r)))) for r in rows]
    assert page(rows, facts, title="t") == page(again, facts, title="t")
