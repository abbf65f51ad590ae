"""The page: one file, no network, no script."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import Any

from server.html import classes, curves, examples, scatter, sites, tables, words
from server.html.markup import Content, Markup, element
from server.html.style import style_sheet
from server.results import ExampleFacts, Row

GUARD = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"
"""What a browser may load: nothing. Should a label ever pass for markup, it still runs no script."""


def page(
    rows: Sequence[Row],
    facts: Mapping[str, Any],
    *,
    title: str,
    image: bytes | None = None,
    strips: Sequence[bytes] = (),
) -> str:
    """A comparison as HTML.

    Args:
        rows: At least one.
        facts: The rest of the results file.
        title: Of the page.
        image: ``curves.png``, with example images; None leaves them out, as ``strips`` does.
        strips: A PNG for each example that ``facts`` names, from :func:`server.example_sheet.read_strips`.
    """
    known = classes.names(rows, facts.get("classes", []))
    sections: list[tuple[str, str, Content]] = [
        ("answer", "The answer", words.answer(rows, facts)),
        ("accuracy", "Accuracy", element("div", tables.accuracy(rows), curves.ends(rows), class_="beside")),
        ("differences", "Differences, paired by seed", tables.differences(rows, facts)),
        ("equal-rounds", "At equal rounds", tables.equal_rounds(rows, facts)),
        ("by-round", "Accuracy against rounds", curves.rounds(rows)),
        ("by-bytes", "Accuracy against bytes", scatter.sent_up(rows)),
        ("by-epsilon", "Accuracy against epsilon", scatter.against_epsilon(rows)),
        ("by-class", "Classes", [classes.by_class(rows, known), classes.confusions(rows, known)]),
        ("by-site", "Sites", sites.by_site(rows, known)),
        ("examples", "Example images", _examples(rows, facts, known, image, strips)),
        ("privacy", "Privacy", words.privacy(rows)),
        ("measured", "How this was measured", [words.measured(rows, facts), tables.work(rows)]),
    ]
    sections = [section for section in sections if section[2] is not None]
    links = element("ul", [element("li", element("a", name, href=f"#{id_}")) for id_, name, _ in sections])
    body = [
        element("header", element("h1", title), element("p", _subtitle(rows), class_="quiet")),
        element("nav", links, aria_label="Sections"),
        element("main", [_section(*section) for section in sections]),
        element("footer", element("p", _origin(facts))),
    ]
    head = [
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=GUARD),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("meta", name="referrer", content="no-referrer"),
        element("title", title),
        element("style", Markup(style_sheet())),
    ]
    return "<!DOCTYPE html>\n" + element("html", element("head", head), element("body", body), lang="en")


def _section(id_: str, name: str, content: Content) -> Markup:
    return element(
        "section", element("h2", name, id=f"{id_}-heading"), content, id=id_, aria_labelledby=f"{id_}-heading"
    )


def _subtitle(rows: Sequence[Row]) -> str:
    seeds, labels = len({r.seed for r in rows}), len({r.label for r in rows})
    return f"{labels} methods or variants, {seeds} {'seeds' if seeds > 1 else 'seed'}, {len(rows)} rows"


def _origin(facts: Mapping[str, Any]) -> str:
    version = facts.get("packages", {}).get("socket-fl", "")
    return f"Worked out from a results file of socket-fl {version} alone; socket-owner report makes this page again."


def _examples(
    rows: Sequence[Row], facts: Mapping[str, Any], known: Sequence[str], image: bytes | None, strips: Sequence[bytes]
) -> Content:
    if facts.get("examples"):
        found = examples.examples(rows, ExampleFacts.model_validate(facts["examples"]), known, strips)
        if found is not None:
            return found
    return _picture(image, facts)


def _picture(image: bytes | None, facts: Mapping[str, Any]) -> Markup | None:
    if image is None:
        return None
    modality = facts.get("modality", "target")
    caption = (
        "Accuracy against rounds in one picture, and below it example images: the owner's RGB, then "
        f"{modality} of the same classes at the sites."
    )
    alt = f"Accuracy against rounds of all rows; below, one RGB and one {modality} example of each class."
    source = "data:image/png;base64," + base64.b64encode(image).decode()
    return element("figure", element("figcaption", caption), element("img", src=source, alt=alt), id="example-images")
