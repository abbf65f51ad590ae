"""Accuracy after each round, and at the end."""

from __future__ import annotations

from collections.abc import Sequence

from server.html.markup import Markup, figure, table
from server.html.svg import Frame, across, area, legend, line, mark, path, picture, shortened, text, upwards
from server.report import MODE_NAMES, cell, padded_curves, row_name
from server.results import MODES, Mode, Row, mean_and_spread

MEANINGS = {str(mode): words for mode, words in MODE_NAMES.items()} | {"oracle": "oracle: uses target labels"}


def of(rows: Sequence[Row], label: str, mode: Mode) -> list[Row]:
    """The rows of one label in one mode, all seeds."""
    return [r for r in rows if (r.label, r.mode) == (label, mode)]


def groups(rows: Sequence[Row]) -> list[tuple[str, Mode, list[Row]]]:
    """Rows by label and mode, in their order."""
    return [(label, mode, of(rows, label, mode)) for label, mode in dict.fromkeys((r.label, r.mode) for r in rows)]


def kind(row: Row) -> str:
    """Of its mark: that of its mode, or the bound's own."""
    return "oracle" if row.oracle else row.mode


def kinds(rows: Sequence[Row]) -> list[tuple[str, str]]:
    """The kinds of marks that rows need, and what they mean."""
    there = {kind(r) for r in rows}
    return [(name, words) for name, words in MEANINGS.items() if name in there]


def ends(rows: Sequence[Row]) -> Markup:
    """Figure: accuracy at the end of every row, with its seeds and worst site."""
    found = groups(rows)
    marks: list[Markup] = []
    y, last = 6.0, ""
    field_right = 286.0
    places = []
    for label, mode, own in found:
        if label != last:
            y, last = y + 18, label
            marks.append(text(8, y, shortened(label, 40), class_="name"))
        y += 17
        places.append((y, mode, own))
    frame = Frame(8, 10, field_right, y + 10)
    for y, _, own in places:
        got = cell(own)
        assert got is not None  # there are rows
        values = [100 * r.accuracy for r in own]
        marks.append(line(frame.x(min(values)), y - 4, frame.x(max(values)), y - 4, f"range {kind(own[0])}"))
        if len(own) > 1:
            marks += [mark(kind(own[0]), frame.x(v), y - 4, 2.4, hollow=True) for v in values]
        if got.worst is not None:
            marks.append(line(frame.x(got.worst), y - 9, frame.x(got.worst), y + 1, "worst"))
        marks.append(mark(kind(own[0]), frame.x(got.mean), y - 4))
        marks.append(text(field_right + 46, y, f"{got.mean:.1f}", anchor="end", class_="value"))
    ticks = [(frame.x(v), f"{v}") for v in (0, 25, 50, 75, 100)]
    axis = across(frame, ticks, "held-out accuracy, %", grid=True)
    shown = picture(
        "ends-picture",
        "Held-out accuracy of each method and mode",
        "; ".join(f"{row_name(label, mode)}: {_figures(own)} %" for label, mode, own in found),
        frame.bottom + 38,
        axis,
        marks,
    )
    seeds = len({r.seed for r in rows})
    words = "Large marks: mean over the seeds; small ones: each seed." if seeds > 1 else "One seed."
    data = table(
        "ends-data",
        "Held-out accuracy by seed, %",
        ("row", "mean", "worst site", *(f"seed {s}" for s in sorted({r.seed for r in rows}))),
        [_end_line(label, mode, own, sorted({r.seed for r in rows})) for label, mode, own in found],
    )
    extra = [("worst", "worst site")] * any(r.mode in ("local", "federated") for r in rows)
    extra += [("seed", "one seed")] * (seeds > 1)
    return figure(
        "ends",
        f"Accuracy at the end, on the common held-out target set. {words}",
        shown,
        data,
        legend([*kinds(rows), *extra]),
    )


def rounds(rows: Sequence[Row]) -> Markup | None:
    """Figure: accuracy against rounds, one picture a method or variant; None if nothing was adapted."""
    labels = list(dict.fromkeys(r.label for r in rows if r.mode != "unadapted"))
    if not labels:
        return None
    end = max(len(r.curve) - 1 for r in rows if r.mode != "unadapted")
    pictures = [_panel(rows, label, f"rounds-{i}", end) for i, label in enumerate(labels)]
    shown = [(label, mode, own) for label, mode, own in groups(rows) if mode != "unadapted"]
    data = table(
        "rounds-data",
        "Held-out accuracy before the first round and after each, mean over the seeds, %",
        ("row", "before", *(f"round {i}" for i in range(1, end + 1))),
        [_round_line(label, mode, own, end) for label, mode, own in shown],
    )
    several = len({r.seed for r in rows}) > 1
    return figure(
        "rounds",
        "Accuracy against rounds. Centralised runs as many steps a round as all sites together."
        + (" Lines: mean over the seeds; bands: from the lowest to the highest." if several else " One seed."),
        pictures,
        data,
        legend(kinds(rows)),
    )


def _panel(rows: Sequence[Row], label: str, id_: str, end: int) -> Markup:
    frame = Frame(34, 30, 330, 180, x_end=end)
    marks: list[Markup] = []
    words = []
    for bound in _bounds(rows, label):
        level = 100 * mean_and_spread([r.accuracy for r in bound])[0]
        marks.append(line(frame.left, frame.y(level), frame.right, frame.y(level), f"line {kind(bound[0])}"))
        words.append(f"{bound[0].label} {level:.1f} %")
    for mode in MODES:
        if not (own := of(rows, label, mode)):
            continue
        curves = [[100 * v for v in curve] for curve in padded_curves(own)]
        columns = list(zip(*curves, strict=True))
        mean = [(frame.x(i), frame.y(sum(c) / len(c))) for i, c in enumerate(columns)]
        if len(own) > 1:
            upper = [(frame.x(i), frame.y(max(c))) for i, c in enumerate(columns)]
            lower = [(frame.x(i), frame.y(min(c))) for i, c in enumerate(columns)]
            marks.append(area(upper, lower, f"band {kind(own[0])}"))
        marks += [path(mean, f"line {kind(own[0])}"), *(mark(kind(own[0]), x, y, 3.6) for x, y in mean)]
        first, last = (sum(c) / len(c) for c in (columns[0], columns[-1]))
        words.append(f"{MODE_NAMES[mode]} from {first:.1f} to {last:.1f} %")
    step = max(1, -(-end // 6))
    axis = across(frame, [(frame.x(i), str(i)) for i in range(0, end + 1, step)], "round")
    title = text(frame.left, 16, shortened(label, 40), class_="name")
    return picture(id_, f"{label}: accuracy against rounds", "; ".join(words), 216, title, upwards(frame), axis, marks)


def _bounds(rows: Sequence[Row], label: str) -> list[list[Row]]:
    """The rows that every picture shows as a level: unadapted, and the first bound."""
    unadapted = [r for r in rows if r.mode == "unadapted"]
    first = next((r.label for r in rows if r.oracle), None)
    oracle = [r for r in rows if r.label == first and first != label]
    return [group for group in (unadapted, oracle) if group]


def _figures(own: Sequence[Row]) -> str:
    got = cell(own)
    return got.figures() if got is not None else "-"


def _end_line(label: str, mode: Mode, own: Sequence[Row], seeds: Sequence[int]) -> tuple[str, ...]:
    got, by_seed = cell(own), {r.seed: f"{100 * r.accuracy:.1f}" for r in own}
    worst = f"{got.worst:.1f}" if got is not None and got.worst is not None else "-"
    return row_name(label, mode), _figures(own), worst, *(by_seed.get(seed, "-") for seed in seeds)


def _round_line(label: str, mode: Mode, own: Sequence[Row], end: int) -> list[str]:
    columns = zip(*padded_curves(own), strict=True)
    means = [f"{100 * sum(column) / len(own):.1f}" for column in columns]
    return [row_name(label, mode), *means, *["-"] * (end + 1 - len(means))]
