"""What the report says in words: the answer, warnings, privacy, and how it was measured."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from server.answers import answers
from server.html.curves import groups
from server.html.markup import Content, Markup, element
from server.privacy_statement import statement
from server.report import row_name
from server.results import Row


def answer(rows: Sequence[Row], facts: Mapping[str, Any]) -> Markup:
    """Three sentences, and below them what a reader has to know of collapsed rows and bounds."""
    said = element("div", [element("p", sentence) for sentence in answers(rows, facts)], class_="answer")
    warnings = _collapsed(rows)
    bounds = list(dict.fromkeys(r.label for r in rows if r.oracle))
    if bounds:
        verb = (
            "uses labels of target images: a bound, no result"
            if len(bounds) == 1
            else ("use labels of target images: bounds, no results")
        )
        warnings.append(f"{', '.join(bounds)} {verb}")
    if not warnings:
        return said
    return Markup(said + element("ul", [element("li", w) for w in warnings], class_="warnings"))


def _collapsed(rows: Sequence[Row]) -> list[str]:
    out = []
    for label, mode, own in groups(rows):
        if fallen := [r for r in own if r.collapsed]:
            seeds = f"seed{'s' * (len(fallen) > 1)} {', '.join(str(r.seed) for r in fallen)}"
            known = [r.prediction_entropy for r in fallen if r.prediction_entropy is not None]
            entropy = f", entropy {min(known):.2f} of 1" if known else ""
            fewest = f"{min(r.classes_predicted for r in fallen)} of {len(fallen[0].confusion)}"
            out.append(f"{row_name(label, mode)} collapsed in {seeds}: {fewest} classes predicted{entropy}")
    return out


def privacy(rows: Sequence[Row]) -> list[Markup]:
    """What each epsilon covers, and what it says nothing about."""
    return [
        part
        for lead, items in statement(rows)
        for part in (element("p", lead), element("ul", [element("li", item) for item in items]) if items else Markup())
    ]


def measured(rows: Sequence[Row], facts: Mapping[str, Any]) -> list[Markup]:
    """Command, versions, seeds, hardware, time and settings."""
    packages = facts.get("packages", {})
    lines: list[tuple[str, Content]] = [
        ("seeds", ", ".join(map(str, sorted({r.seed for r in rows})))),
        ("modality", str(facts.get("modality", "not recorded"))),
        (
            "hardware",
            f"{facts.get('device', 'not recorded')}, {facts.get('machine', '')}, {facts.get('cpus', '?')} cores",
        ),
        ("versions", ", ".join(f"{n} {v}" for n, v in {"Python": facts.get("python", "?"), **packages}.items())),
        (
            "time",
            f"{facts['seconds']} s of wall clock for the last call; finished rows are kept between calls"
            if "seconds" in facts
            else "not recorded",
        ),
        ("partition", ", ".join(dict.fromkeys(r.partition for r in rows if r.partition)) or "not recorded"),
        ("schema", f"results schema {facts.get('schema_version', '?')}"),
    ]
    settings = {key: facts[key] for key in ("experiment", "variants") if facts.get(key)}
    return [
        element("pre", element("code", str(facts.get("command", "not recorded")))),
        element("dl", [(element("dt", name), element("dd", value)) for name, value in lines]),
        element(
            "details",
            element("summary", "All settings"),
            element("pre", element("code", json.dumps(settings, indent=1, ensure_ascii=False))),
        ),
    ]
