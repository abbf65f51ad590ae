"""HTML from Python calls; whatever is not markup already is escaped."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from html import escape

VOID = frozenset({"meta", "img"})
LINES = frozenset(
    {"html", "head", "body", "meta", "title", "style", "header", "nav", "main", "section", "footer", "h1", "h2", "p"}
    | {"ul", "li", "table", "caption", "thead", "tbody", "tr", "figure", "figcaption", "details", "summary", "div"}
    | {"svg", "pre", "dl", "dt", "dd"}
)
"""Ended by a line break, so that the source can be read too."""


class Markup(str):
    """Text that is HTML and is not escaped again."""

    __slots__ = ()


Content = str | None | Iterable["Content"]


def element(name: str, /, *content: Content, **attributes: str | float | bool | None) -> Markup:
    """One element.

    Args:
        name: Of the element.
        content: Text, markup, or nested sequences of both; None is nothing.
        attributes: ``class_`` is ``class``, ``aria_label`` is ``aria-label``; None and False leave one out, True has
            no value. Numbers lose what two decimals do not show.
    """
    known = "".join(
        f" {key.rstrip('_').replace('_', '-')}" + ("" if value is True else f'="{_value(value)}"')
        for key, value in attributes.items()
        if value is not None and value is not False
    )
    end = "\n" if name in LINES else ""
    if name in VOID:
        return Markup(f"<{name}{known}>{end}")
    return Markup(f"<{name}{known}>{join(content)}</{name}>{end}")


def join(content: Content) -> Markup:
    """Several parts as one, escaped where they are no markup."""
    if content is None:
        return Markup()
    if isinstance(content, str):
        return content if isinstance(content, Markup) else Markup(escape(_shown(content)))
    return Markup("".join(join(part) for part in content))


def _value(value: str | float) -> str:
    return escape(_shown(value)) if isinstance(value, str) else f"{value:.2f}".rstrip("0").rstrip(".")


def _shown(text: str) -> str:
    """Without control characters, which no HTML file may hold."""
    return re.sub(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]", "\N{REPLACEMENT CHARACTER}", text)


def scrolling(*content: Content, label: str) -> Markup:
    """A box of its own for what may be wider than a phone; the keyboard can reach it.

    Args:
        content: The table.
        label: The id of what names it.
    """
    return element("div", *content, class_="scroll", tabindex="0", role="region", aria_labelledby=label)


def table(id_: str, caption: Content, head: Sequence[Content], lines: Iterable[Sequence[Content]]) -> Markup:
    """A table with a caption, in a box that scrolls; the first cell of a line is its heading.

    Args:
        id_: Unique in the page.
        caption: What it shows.
        head: One heading a column.
        lines: As many cells as there are headings each.
    """
    body = [
        element("tr", element("th", line[0], scope="row"), [element("td", cell) for cell in line[1:]]) for line in lines
    ]
    top = element("tr", [element("th", text, scope="col") for text in head])
    return scrolling(
        element(
            "table",
            element("caption", caption, id=f"{id_}-caption"),
            element("thead", top),
            element("tbody", body),
            id=id_,
        ),
        label=f"{id_}-caption",
    )


def figure(id_: str, caption: Content, pictures: Content, data: Content, legend: Content = None) -> Markup:
    """Pictures with a caption, and below them what they show as tables.

    Args:
        id_: Unique in the page.
        caption: What is shown, and how it was worked out.
        pictures: From :mod:`server.html.svg`, side by side where there is room.
        data: Tables of the same figures.
        legend: What the marks mean.
    """
    return element(
        "figure",
        element("figcaption", caption),
        legend,
        element("div", pictures, class_="pictures"),
        element("details", element("summary", "The same as a table"), data),
        id=id_,
    )
