"""Accuracy against what it costs: bytes sent up, or epsilon."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from server.html.curves import groups, kind
from server.html.markup import Markup, figure, table
from server.html.svg import (
    WIDTH,
    Frame,
    across,
    legend,
    line,
    mark,
    path,
    picture,
    round_ticks,
    shortened,
    spread_out,
    text,
    upwards,
)
from server.privacy_cost import epsilons_of
from server.report import MODE_NAMES, cell
from server.results import Mode, Row

LABEL_HEIGHT = 15.0
FIELD_RIGHT = 205.0


class Point(NamedTuple):
    """One label in one mode.

    Attributes:
        label: What stands beside it.
        mode: Its mode.
        cost: Where it lies across; None is at the right end.
        rows: All seeds.
    """

    label: str
    mode: Mode
    cost: float | None
    rows: list[Row]


def sent_up(rows: Sequence[Row]) -> Markup | None:
    """Figure: accuracy of federated rows against bytes that sites sent up; None without any."""
    points = [
        Point(label, mode, sum(r.bytes_up for r in own) / len(own) / 1e6, own)
        for label, mode, own in groups(rows)
        if mode == "federated" and all(r.bytes_up > 0 for r in own)
    ]
    if not points:
        return None
    most = max(p.cost or 0.0 for p in points)
    frame = _frame(len(points), most * 1.08)
    axis = across(frame, [(frame.x(v), f"{v:g}") for v in round_ticks(most * 1.08)], "MB sent up, all rounds and sites")
    title = "Accuracy against bytes sent up"
    data = table(
        "bytes-data",
        "Bytes sent up and accuracy of federated rows",
        ("row", "MB up", "MB up a round", "accuracy, %"),
        [(p.label, f"{p.cost:.2f}", f"{(p.cost or 0.0) / max(p.rows[0].rounds, 1):.2f}", _accuracy(p)) for p in points],
    )
    return figure(
        "bytes",
        "Accuracy against bytes that the sites sent up in training: payloads of all rounds and sites, mean over the "
        "seeds. A results file has the sum, not each round's part. Bars: from the lowest to the highest seed.",
        _picture("bytes-picture", title, frame, axis, points, [frame.x(p.cost or 0.0) for p in points]),
        data,
    )


def against_epsilon(rows: Sequence[Row]) -> Markup | None:
    """Figure: accuracy against epsilon, one picture for each mode and unit; None if no row has one."""
    kinds = list(dict.fromkeys((r.mode, unit) for r in rows for _, unit in epsilons_of([r])))
    if not kinds:
        return None
    parts = [_of_unit(rows, mode, unit, f"epsilon-{i}") for i, (mode, unit) in enumerate(kinds)]
    shown = list(dict.fromkeys(unit for _, unit in kinds))
    return figure(
        "epsilon",
        "Accuracy against epsilon of the whole job, on a logarithmic scale; rows without differential privacy are at "
        f"the right end. Unit, adjacency and delta: {'; or '.join(shown)}. Epsilons of different units are in "
        "pictures of their own and must not be added. Bars: from the lowest to the highest seed.",
        [shown for shown, _ in parts],
        [data for _, data in parts],
        legend([(mode, MODE_NAMES[mode]) for mode in dict.fromkeys(mode for mode, _ in kinds)]),
    )


def _of_unit(rows: Sequence[Row], mode: Mode, unit: str, id_: str) -> tuple[Markup, Markup]:
    points = []
    for label, its_mode, own in groups(rows):
        spent = {u: value for value, u in epsilons_of(own)}
        if its_mode == mode and (unit in spent or not spent) and not own[0].oracle:
            points.append(Point(label, mode, spent.get(unit), own))
    frame = _frame(len(points), 1.0)
    known = [p.cost for p in points if p.cost is not None]
    low, high = math.log10(min(known) / 1.5), math.log10(max(known) * 1.5)
    right = frame.right - 42  # what is left belongs to "none"

    def place(cost: float | None) -> float:
        if cost is None:
            return frame.right - 12
        return frame.left + (right - frame.left) * (math.log10(cost) - low) / (high - low)

    ticks = [(frame.right - 12, "none")]
    for cost in sorted(set(known)):
        if all(abs(place(cost) - x) > 30 for x, _ in ticks):
            ticks.append((place(cost), f"{cost:.2g}"))
    between = line(right + 6, frame.top, right + 6, frame.bottom, "grid dashes")
    joined = path([(place(p.cost), frame.y(_mean(p))) for p in sorted(points, key=_by_cost) if p.cost], f"line {mode}")
    short = unit.split(":")[0]
    drawn = _picture(
        f"{id_}-picture",
        f"{MODE_NAMES[mode]}, {short} epsilon",
        frame,
        [*across(frame, ticks, f"epsilon, {short}"), between, joined],
        points,
        [place(p.cost) for p in points],
    )
    data = table(
        f"{id_}-data",
        f"{MODE_NAMES[mode]}: epsilon ({unit}) and accuracy",
        ("row", "epsilon", "accuracy, %"),
        [(p.label, "none" if p.cost is None else f"{p.cost:.2f}", _accuracy(p)) for p in points],
    )
    return drawn, data


def _by_cost(point: Point) -> float:
    return math.inf if point.cost is None else point.cost


def _frame(points: int, x_end: float) -> Frame:
    return Frame(34, 30, FIELD_RIGHT, 30 + max(150.0, LABEL_HEIGHT * points), x_end=x_end)


def _picture(
    id_: str, title: str, frame: Frame, axis: Sequence[Markup], points: Sequence[Point], across_at: Sequence[float]
) -> Markup:
    marks: list[Markup] = []
    at = [frame.y(_mean(p)) for p in points]
    beside = spread_out(at, LABEL_HEIGHT, frame.top, frame.bottom)
    for point, x, y, label_y in zip(points, across_at, at, beside, strict=True):
        values = [100 * r.accuracy for r in point.rows]
        marks.append(line(x, frame.y(min(values)), x, frame.y(max(values)), f"range {kind(point.rows[0])}"))
        marks.append(line(x + 5, y, FIELD_RIGHT + 12, label_y, "leader"))
        marks.append(text(FIELD_RIGHT + 15, label_y + 4, shortened(point.label, 19)))
    marks += [mark(kind(p.rows[0]), x, y) for p, x, y in zip(points, across_at, at, strict=True)]
    words = "; ".join(f"{p.label}: {'none' if p.cost is None else f'{p.cost:.2f}'}, {_accuracy(p)} %" for p in points)
    name = text(frame.left, 16, shortened(title, 44), class_="name")
    return picture(id_, title, words, frame.bottom + 38, name, upwards(frame), axis, marks, width=WIDTH)


def _mean(point: Point) -> float:
    return 100 * sum(r.accuracy for r in point.rows) / len(point.rows)


def _accuracy(point: Point) -> str:
    got = cell(point.rows)
    return got.figures() if got is not None else "-"
