"""Example images, and what each row's models say of them."""

from __future__ import annotations

import base64
from collections.abc import Sequence

from server.example_votes import MEANING, asked, votes, word
from server.html.markup import Content, Markup, element, table
from server.report import row_name
from server.results import MODES, ExampleFacts, Row

SIMULATED = (
    "These are held-out images of a simulation, which knows their RGB views and classes. No adaptation sees them; a "
    "deployed site shows nobody an image."
)


def examples(
    rows: Sequence[Row], facts: ExampleFacts, classes: Sequence[str], strips: Sequence[bytes]
) -> list[Markup] | None:
    """A card for each example, and all predictions as one table; None if no row was asked.

    Args:
        rows: Of a comparison.
        facts: Which images they are.
        classes: Names.
        strips: A PNG for each example with the tiles that ``facts.columns`` names; nothing leaves pictures out.
    """
    if not facts.indices or not asked(rows):
        return None
    chosen = f"Chosen by a rule that knows no result: {facts.rule}. "
    made = f" Translated: by the translator of {facts.translator}. " if facts.translator else " "
    cards = [_card(rows, facts, classes, i, strips[i] if i < len(strips) else None) for i in range(len(facts.indices))]
    return [
        element("p", chosen, MEANING, made, SIMULATED),
        element("div", cards, class_="cards"),
        # Not in print, where the cards say nearly as much and this takes pages.
        element(
            "details", element("summary", "All predictions as a table"), _all(rows, facts, classes), class_="spare"
        ),
    ]


def _card(rows: Sequence[Row], facts: ExampleFacts, classes: Sequence[str], i: int, strip: bytes | None) -> Markup:
    label, position = facts.labels[i], facts.indices[i]
    name = classes[label]
    picture: Content = None
    if strip is not None:
        heads = [element("span", column) for column in facts.columns]
        source = "data:image/png;base64," + base64.b64encode(strip).decode()
        alt = f"Example {i + 1}, held-out image of class {name}: {', '.join(facts.columns)}"
        picture = [
            element("div", heads, class_="tiles", aria_hidden="true"),
            element("img", src=source, alt=alt, class_="strip"),
        ]
    lines = []
    for row_label, by_mode in asked(rows):
        if "unadapted" in by_mode:
            lines.append((row_label, *[_cell(by_mode["unadapted"], i, label, classes)] * len(MODES)))
        else:
            lines.append((row_label, *(_cell(by_mode.get(mode, []), i, label, classes) for mode in MODES)))
    said = table(
        f"example-{i}",
        f"Example {i + 1}: {name} (held-out image {position})",
        ("row", "alone", "federated", "centralised"),
        lines,
    )
    return element("div", picture, said, class_="card")


def _cell(rows: Sequence[Row], i: int, label: int, classes: Sequence[str]) -> Content:
    found = votes(rows, i, label)
    if found is None:
        return "-"
    said = element("span", word(found, classes), class_="hit" if found.predicted == label else None)
    return [said, element("small", f"{found.right}/{found.models} right")]


def _all(rows: Sequence[Row], facts: ExampleFacts, classes: Sequence[str]) -> Markup:
    lines = []
    for i, label in enumerate(facts.labels):
        for row_label, by_mode in asked(rows):
            for mode, own in by_mode.items():
                if (found := votes(own, i, label)) is None:
                    continue
                lines.append(
                    (
                        f"{i + 1}, {row_name(row_label, mode)}",
                        classes[label],
                        word(found, classes),
                        f"{found.agree} of {found.models}",
                        f"{found.right} of {found.models}",
                        f"{found.probability:.2f}",
                    )
                )
    return table(
        "examples-data",
        "What models say of the examples. Probability: mean over the models of what each gives to its own prediction",
        ("example, row", "true class", "most predict", "models that do", "models that are right", "probability"),
        lines,
    )
