"""What happens to each class: accuracy by class, and confusion."""

from __future__ import annotations

from collections.abc import Sequence

from server.html.curves import groups, kind, kinds, of
from server.html.markup import Markup, element, figure, table
from server.html.palette import HEAT
from server.html.svg import WIDTH, Frame, across, legend, line, mark, picture, shortened, text
from server.report import MODE_NAMES, row_name
from server.results import MODES, Mode, Row

APART: dict[Mode, float] = {"local": -4.5, "centralised": 4.5}
"""By how much marks of modes are set off, so that equal values can be told apart."""
Counts = list[list[int]]
NUMBERED = 12
"""Up to so many classes the cells of a confusion have figures in them, and columns have names."""


def summed(rows: Sequence[Row]) -> Counts:
    """Confusion counts of several seeds, true class by predicted."""
    return [
        [sum(column) for column in zip(*lines, strict=True)] for lines in zip(*(r.confusion for r in rows), strict=True)
    ]


def recall(counts: Counts) -> list[float | None]:
    """Share of each true class that is predicted right, in per cent; None where the held-out set has none."""
    return [100 * line[i] / sum(line) if sum(line) else None for i, line in enumerate(counts)]


def names(rows: Sequence[Row], known: Sequence[str]) -> list[str]:
    """Names of the classes; numbers where a results file does not hold them."""
    size = len(rows[0].confusion)
    return list(known) if len(known) == size else [f"class {i}" for i in range(size)]


def by_class(rows: Sequence[Row], classes: Sequence[str]) -> Markup:
    """Figure: accuracy of each class, one picture a method or variant."""
    labels = list(dict.fromkeys(r.label for r in rows))
    pictures = [_class_panel(rows, label, f"class-{i}", classes) for i, label in enumerate(labels)]
    data = table(
        "class-data",
        "Accuracy by true class, all sites and seeds together, %",
        ("row", *classes),
        [(row_name(label, mode), *(_percent(v) for v in recall(summed(own)))) for label, mode, own in groups(rows)],
    )
    return figure(
        "class",
        "Accuracy by true class: share of its held-out images that are predicted right, counts of all sites and "
        "seeds added.",
        pictures,
        data,
        legend(kinds(rows)),
    )


def confusions(rows: Sequence[Row], classes: Sequence[str]) -> Markup | None:
    """Figure: confusion of each method and variant, federated and centralised; None without either."""
    shown = [group for group in groups(rows) if group[1] in ("federated", "centralised")]
    if not shown:
        return None
    pictures = [_heat(*group, f"confusion-{i}", classes) for i, group in enumerate(shown)]
    data = [
        table(
            f"confusion-{i}-data",
            f"{label}, {MODE_NAMES[mode]}: held-out images, true class by predicted",
            ("true class", *classes),
            [(name, *map(str, counts)) for name, counts in zip(classes, summed(own), strict=True)],
        )
        for i, (label, mode, own) in enumerate(shown)
    ]
    return figure(
        "confusion",
        "Confusion: share of each true class (lines, add up to 100 %) by predicted class (columns), counts of all "
        "sites and seeds added.",
        pictures,
        data,
    )


def _class_panel(rows: Sequence[Row], label: str, id_: str, classes: Sequence[str]) -> Markup:
    own = [r for r in rows if r.label == label]
    modes: Sequence[Mode] = ("unadapted",) if own[0].mode == "unadapted" else MODES
    shares = [(mode, recall(summed(found))) for mode in modes if (found := of(own, label, mode))]
    frame = Frame(100, 26, 325, 26 + 18.0 * len(classes))
    marks = []
    for i, name in enumerate(classes):
        y = frame.top + 18 * i + 9
        marks.append(text(frame.left - 8, y + 4, shortened(name, 14), anchor="end"))
        values = [(mode, value) for mode, of_class in shares if (value := of_class[i]) is not None]
        if values:
            low, high = min(v for _, v in values), max(v for _, v in values)
            marks.append(line(frame.x(low), y, frame.x(high), y, "leader"))
        shape = "oracle" if own[0].oracle else None
        marks += [
            mark(shape or mode, frame.x(value), y + (APART.get(mode, 0.0) if len(shares) > 1 else 0.0), 3.6)
            for mode, value in values
        ]
    axis = across(frame, [(frame.x(v), str(v)) for v in (0, 50, 100)], "right, % of the class", grid=True)
    words = "; ".join(
        f"{MODE_NAMES[mode]}: " + ", ".join(f"{n} {_percent(v)}" for n, v in zip(classes, values, strict=True))
        for mode, values in shares
    )
    title = text(8, 14, shortened(label, 40), class_="name")
    return picture(id_, f"{label}: accuracy by class, %", words, frame.bottom + 38, title, axis, marks)


def _heat(label: str, mode: Mode, own: list[Row], id_: str, classes: Sequence[str]) -> Markup:
    counts, size = summed(own), len(classes)
    numbered = size <= NUMBERED
    side = max(14.0, min(30.0, 232 / size))
    left, top = 100.0, 26.0
    marks = []
    for i, counted in enumerate(counts):
        y, total = top + side * i, sum(counted)
        marks.append(text(left - 6, y + side / 2 + 4, shortened(classes[i], 14), anchor="end"))
        for j, count in enumerate(counted):
            share = count / total if total else 0.0
            step = heat_step(share)
            marks.append(element("rect", x=left + side * j, y=y, width=side, height=side, class_=f"heat heat-{step}"))
            if numbered and count:
                at = left + side * (j + 0.5), y + side / 2 + 4
                marks.append(text(*at, f"{100 * share:.0f}", anchor="middle", class_=f"heat-ink-{step}"))
    below = top + side * size + 12
    every = 1 if numbered else 5
    for j in range(0, size, every):
        x = left + side * (j + 0.5) + 4
        word = shortened(classes[j], 11) if numbered else str(j + 1)
        marks.append(text(x, below, word, anchor="end", turn=-45 if numbered else 0))
    right = ", ".join(f"{name} {_percent(v)}" for name, v in zip(classes, recall(counts), strict=True))
    title = text(8, 14, f"{shortened(label, 30)}, {MODE_NAMES[mode]}", class_="name")
    longest = max(len(shortened(name, 11)) for name in classes)
    height = below + (4 + 4.6 * longest if numbered else 8)  # 45 degrees
    width = max(WIDTH, left + side * size + 8)
    what = f"Confusion of {label}, {MODE_NAMES[mode]}" + (
        ", a bound: uses target labels" if kind(own[0]) == "oracle" else ""
    )
    return picture(id_, what, f"right, by true class, %: {right}", height, title, marks, width=width)


def heat_step(share: float) -> int:
    """Step of the heat colours: 0 for next to nothing, then by quarters."""
    return 0 if share < 0.05 else min(HEAT - 1, 1 + int(share * (HEAT - 1)))


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"
