"""Cards of example images: their own picture, and what each row says beside the true class."""

from __future__ import annotations

import base64
from typing import Any

from server.examples import Said
from server.html.examples import examples
from server.html.page import page
from server.results import ExampleFacts
from tests.server.html_reader import Node, read
from tests.server.rows import row

CLASSES = ["cone", "cube"]
FACTS: dict[str, Any] = {
    "rule": "the first of each class",
    "indices": [4, 7],
    "labels": [0, 1],
    "columns": ["RGB", "depth", "translated"],
    "translator": "tgkt, federated, seed 0",
    "sha256": "x",
}
ROWS = [
    row("unadapted", "unadapted", said=(Said("", (1, 1), (0.5, 0.5)),)),
    row("tgkt", "local", said=(Said("site-00", (0, 0), (0.75, 0.5)), Said("site-01", (0, 1), (0.25, 0.5)))),
    row("tgkt", "centralised", said=(Said("", (0, 1), (1.0, 1.0)),)),
]
STRIPS = [b"\x89PNG-one", b"\x89PNG-two"]


def _tree(strips: list[bytes]) -> Node:
    return read("".join(map(str, examples(ROWS, ExampleFacts(**FACTS), CLASSES, strips) or [])))


def test_each_example_has_its_own_picture_that_says_what_it_is() -> None:
    images = list(_tree(STRIPS).all("img"))
    assert [base64.b64decode(n.attributes["src"].split(",")[1]) for n in images] == STRIPS
    assert images[1].attributes["alt"] == "Example 2, held-out image of class cube: RGB, depth, translated"
    heads = [n.text() for n in _tree(STRIPS).all("div") if n.attributes.get("class") == "tiles"]
    assert heads == ["RGB depth translated"] * 2
    assert not list(_tree([]).all("img"))


def test_predictions_stand_beside_the_true_class() -> None:
    tree = _tree(STRIPS)
    assert tree.by_id("example-0").cells() == [
        ["unadapted", *["cube 0/1 right"] * 3],
        ["tgkt", "cone 2/2 right", "-", "cone 1/1 right"],
    ]
    assert tree.by_id("example-0-caption").text() == "Example 1: cone (held-out image 4)"
    assert tree.by_id("example-1").cells()[1] == ["tgkt", "split 1/2 right", "-", "cube 1/1 right"]
    assert tree.by_id("examples-data").cells()[:2] == [
        ["1, unadapted", "cone", "cube", "1 of 1", "0 of 1", "0.50"],
        ["1, tgkt, each site alone", "cone", "cone", "2 of 2", "2 of 2", "0.50"],
    ]


def test_rule_translator_and_simulation_are_said() -> None:
    said = _tree(STRIPS).text()
    for words in ("the first of each class", "the translator of tgkt, federated, seed 0", "simulation"):
        assert words in said


def test_cards_take_the_place_of_the_one_picture() -> None:
    facts = {"classes": CLASSES, "examples": FACTS}
    whole = page(ROWS, facts, title="t", image=b"\x89PNG-curves", strips=STRIPS)
    assert len(list(read(whole).all("img"))) == 2
    unasked = page([row("socket")], facts, title="t", image=b"\x89PNG-curves", strips=STRIPS)
    (image,) = read(unasked).all("img")
    assert base64.b64decode(image.attributes["src"].split(",")[1]) == b"\x89PNG-curves"
