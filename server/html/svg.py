"""The few marks that the report's pictures are drawn with. Units are pixels of a phone's width."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from server.html.markup import Content, Markup, element

WIDTH = 340.0
"""Of a picture: no wider than a phone, so that text in it keeps its size; wide screens set several side by side."""


@dataclass(frozen=True)
class Frame:
    """Where a picture's values lie.

    Attributes:
        left: Of the field, in pixels, as the next three.
        top: Likewise.
        right: Likewise.
        bottom: Likewise.
        x_end: Value at the right; 0 is at the left.
        y_end: Value at the top; 0 is at the bottom.
    """

    left: float
    top: float
    right: float
    bottom: float
    x_end: float = 100.0
    y_end: float = 100.0

    def x(self, value: float) -> float:
        """Pixel of a value."""
        return self.left + (self.right - self.left) * value / (self.x_end or 1.0)

    def y(self, value: float) -> float:
        """Pixel of a value."""
        return self.bottom - (self.bottom - self.top) * value / (self.y_end or 1.0)


def picture(id_: str, title: str, description: str, height: float, *content: Content, width: float = WIDTH) -> Markup:
    """An SVG that a screen reader can name.

    Args:
        id_: Unique in the page.
        title: Its name.
        description: What it shows, in words and figures.
        height: In pixels, for a width of ``width``.
        content: Marks.
        width: In pixels.
    """
    return element(
        "svg",
        element("title", title, id=f"{id_}-title"),
        element("desc", description, id=f"{id_}-desc"),
        *content,
        id=id_,
        role="img",
        aria_labelledby=f"{id_}-title",
        aria_describedby=f"{id_}-desc",
        viewBox=f"0 0 {width:g} {height:g}",
        style=f"max-width:{width * 1.15:.0f}px" + (f";min-width:{width:.0f}px" if width > WIDTH else ""),
    )


def text(x: float, y: float, content: str, *, anchor: str = "start", class_: str = "small", turn: float = 0) -> Markup:
    """Words; ``turn`` in degrees about their anchor."""
    turned = f"rotate({turn:g} {x:.1f} {y:.1f})" if turn else None
    return element("text", content, x=x, y=y, text_anchor=anchor, class_=class_, transform=turned)


def line(x1: float, y1: float, x2: float, y2: float, class_: str) -> Markup:
    """A straight line."""
    return element("line", x1=x1, y1=y1, x2=x2, y2=y2, class_=class_)


def path(points: Sequence[tuple[float, float]], class_: str) -> Markup:
    """A line through points."""
    return element("polyline", points=" ".join(f"{x:.1f},{y:.1f}" for x, y in points), class_=class_)


def area(upper: Sequence[tuple[float, float]], lower: Sequence[tuple[float, float]], class_: str) -> Markup:
    """What lies between two lines."""
    points = [*upper, *reversed(lower)]
    return element("polygon", points=" ".join(f"{x:.1f},{y:.1f}" for x, y in points), class_=class_)


def mark(kind: str, x: float, y: float, size: float = 4.5, *, hollow: bool = False) -> Markup:
    """The mark of a mode, each of another shape: circle, square, triangle, diamond, or a cross for unadapted."""
    class_ = f"mark {kind}" + (" hollow" if hollow else "")
    if kind == "federated":
        return element("circle", cx=x, cy=y, r=size, class_=class_)
    d = size * 0.9
    corners: Mapping[str, Sequence[tuple[float, float]]] = {
        "centralised": ((-d, -d), (d, -d), (d, d), (-d, d)),
        "local": ((0, -1.2 * size), (1.15 * size, 0.9 * size), (-1.15 * size, 0.9 * size)),
        "oracle": ((0, -1.3 * size), (1.3 * size, 0), (0, 1.3 * size), (-1.3 * size, 0)),
    }
    if kind in corners:
        points = " ".join(f"{x + dx:.1f},{y + dy:.1f}" for dx, dy in corners[kind])
        return element("polygon", points=points, class_=class_)
    cross = f"M{x - d:.1f} {y - d:.1f}L{x + d:.1f} {y + d:.1f}M{x - d:.1f} {y + d:.1f}L{x + d:.1f} {y - d:.1f}"
    return element("path", d=cross, class_=class_)


def across(frame: Frame, ticks: Sequence[tuple[float, str]], label: str, *, grid: bool = False) -> list[Markup]:
    """The axis below a field: ``ticks`` are pixels and words."""
    marks = [
        line(x, frame.top if grid else frame.bottom, x, frame.bottom + 3, "grid" if grid else "axis") for x, _ in ticks
    ]
    words = [text(x, frame.bottom + 15, word, anchor="middle") for x, word in ticks]
    middle = (frame.left + frame.right) / 2
    return [*marks, *words, text(middle, frame.bottom + 30, label, anchor="middle")]


def upwards(frame: Frame, values: Sequence[float] = (0, 25, 50, 75, 100)) -> list[Markup]:
    """Lines and figures of accuracy in per cent, at the left of a field."""
    lines = [line(frame.left, frame.y(v), frame.right, frame.y(v), "grid" if v else "axis") for v in values]
    return lines + [text(frame.left - 5, frame.y(v) + 4, f"{v:g}", anchor="end") for v in values]


def round_ticks(end: float, about: int = 4) -> list[float]:
    """Round values from 0 to ``end``, in steps of 1, 2 or 5 times a power of ten, about so many."""
    if end <= 0:
        return [0.0]
    power = 10 ** math.floor(math.log10(end / about))
    step = next(power * f for f in (1, 2, 5, 10) if power * f * about >= end)
    return [step * i for i in range(int(end / step + 1e-9) + 1)]


def shortened(words: str, letters: int) -> str:
    """At most so many letters; the whole name is in the table."""
    return words if len(words) <= letters else words[: letters - 1] + "…"


def spread_out(wanted: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Places near those wanted, in their order, at least ``gap`` apart and, if there is room, within both ends."""
    order = sorted(range(len(wanted)), key=lambda i: wanted[i])
    placed = [0.0] * len(wanted)
    last = low - gap
    for i in order:
        last = placed[i] = max(wanted[i], last + gap)
    ceiling = high + gap
    for i in reversed(order):
        ceiling = placed[i] = min(placed[i], ceiling - gap)
    return placed


def legend(kinds: Sequence[tuple[str, str]]) -> Markup:
    """What marks mean: pairs of a mark's kind and words; ``worst``, ``seed`` and ``band`` have marks of their own."""
    return element("ul", [element("li", _sample(kind), " ", words) for kind, words in kinds], class_="legend")


def _sample(kind: str) -> Markup:
    parts: Sequence[Markup] = (line(0, 7, 30, 7, f"line {kind}"), mark(kind, 15, 7))
    if kind == "worst":
        parts = (line(15, 2, 15, 12, "worst"),)
    elif kind == "seed":
        parts = (mark("federated", 15, 7, 2.6, hollow=True),)
    elif kind in ("unadapted", "oracle"):
        parts = (line(0, 7, 30, 7, f"line {kind}"),)
    return element("svg", *parts, viewBox="0 0 30 14", aria_hidden="true", class_="sample")
