"""The report's tables: accuracy, paired differences, and what each row took."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from server import equal_rounds as equal
from server.differences import NOISE, Compared, Difference, of_modes, of_steps, signed
from server.html.curves import groups
from server.html.markup import Content, Markup, element, table
from server.privacy_cost import costs
from server.report import HEADINGS, MODE_NAMES, TESTED_ON, Cell, cells, row_name
from server.results import Row, mean_and_spread


def accuracy(rows: Sequence[Row]) -> Markup:
    """The main table: each method and variant alone, federated and centralised."""
    lines = []
    for name, found in cells(rows):
        label, stamped, _ = name.partition(" (uses target labels)")
        heading: Content = [label, " ", element("span", "uses target labels", class_="stamp")] if stamped else label
        lines.append((heading, *map(_cell, found)))
    return table(
        "accuracy-table", TESTED_ON.replace("(worst site in brackets)", "(below it the worst site)"), HEADINGS, lines
    )


def _cell(found: Cell | None) -> Content:
    if found is None:
        return "-"
    return [
        found.figures(),
        element("small", f"worst {found.worst:.1f}") if found.worst is not None else None,
        element("small", element("span", "collapsed", class_="stamp")) if found.collapsed else None,
    ]


def differences(rows: Sequence[Row], facts: Mapping[str, Any]) -> Markup | None:
    """Differences paired by seed: federated to the other modes, with DP to without, each method to the one before."""
    lines = [
        *of_modes(rows, "federated", "centralised"),
        *of_modes(rows, "federated", "local"),
        *(cost.compared for cost in costs(rows, facts)),
        *of_steps(rows),
    ]
    if not lines:
        return None
    return table(
        "differences-table",
        f"Accuracy of one row minus that of another with the same seed, in percentage points: mean ± standard "
        f"deviation over the seeds, and the 95 % interval of the mean. {NOISE}",
        ("difference", "points", "verdict", "seeds"),
        [_difference(line) for line in lines],
    )


def _difference(line: Compared) -> tuple[Content, ...]:
    (label, mode), (other, its_mode), found = line
    name = f"{label}: {mode} - {MODE_NAMES[its_mode]}" if label == other else f"{label} - {other}, {mode}"
    return name, *_points(found), str(found.seeds)


def _points(found: Difference) -> tuple[Content, str]:
    """Mean with spread and interval, and what to make of it."""
    spread = f" ± {found.spread:.1f}" if found.spread is not None else ""
    interval = (
        element("small", f"{signed(found.interval[0])} to {signed(found.interval[1])}") if found.interval else None
    )
    noise = "within noise" if found.interval else "one seed"
    verdict = noise if found.within_noise else "higher" if found.mean > 0 else "lower"
    return [signed(found.mean) + spread, " ", interval], verdict


def equal_rounds(rows: Sequence[Row], facts: Mapping[str, Any]) -> Markup | None:
    """Federated and centralised after as many optimiser steps of one model; None if no label has both."""
    found = equal.at_equal_rounds(rows, facts)
    head = ("method", "federated", "centralised", "difference")
    return table("equal-rounds-table", equal.MEANING, head, map(_equal, found)) if found else None


def _equal(at: equal.Equal) -> tuple[Content, ...]:
    points, verdict = _points(at.difference)
    return (
        at.label,
        [equal.figures(at.federated), element("small", f"round {at.rounds}")],
        [equal.figures(at.centralised), element("small", f"round {at.rounds // at.sites}")],
        [points, element("small", verdict)],
    )


def work(rows: Sequence[Row]) -> Markup:
    """What each row took: steps, images seen, bytes, time."""
    lines = []
    for label, mode, own in groups(rows):
        up, down = (
            _mean([value / 1e6 for value in of]) for of in ([r.bytes_up for r in own], [r.bytes_down for r in own])
        )
        travelled = (f"{up:.2f}", f"{down:.2f}") if mode == "federated" else ("-", "-")
        lines.append(
            (
                row_name(label, mode),
                f"{_mean([r.steps for r in own]):.0f}",
                f"{_mean([r.visits for r in own]):.0f}",
                *travelled,
                f"{_mean([r.seconds for r in own]):.0f}",
                own[0].validator if own[0].validator != "none" else "last",
            )
        )
    return table(
        "work-table",
        "Steps, images that steps saw, payloads of training, and time of each row, all sites together, mean over the "
        "seeds. Rows ran side by side: seconds are no benchmark.",
        ("row", "steps", "images", "MB up", "MB down", "seconds", "round kept"),
        lines,
    )


def _mean(values: Sequence[float]) -> float:
    return mean_and_spread(values)[0]
