"""Markdown of a performance results file: the goals, or one part. ``scripts/update_tables.py`` puts it into docs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from benchmarks.goals import GOALS, Goal
from benchmarks.record import Figure
from benchmarks.table import shown, text_of

NOT_MEASURED = "not measured"


def goals(content: Mapping[str, Any]) -> str:
    """Each goal with the figure that meets or misses it, and what that figure was before, if the file knows it."""
    lines = ["| goal | at most | before | now | met |", "| --- | ---: | ---: | ---: | --- |"]
    for goal in GOALS:
        old = _value(goal, content.get("before", {}))
        found = goal.figure(content["parts"])
        met = "-" if found is None else "yes" if goal.met(found["value"]) else "no"
        limit = f"at least {shown(goal.limit)}" if goal.least else shown(goal.limit)
        lines.append(f"| {goal.text} | {limit} | {old} | {_value(goal, content['parts'])} | {met} |")
    lines += ["", "Median [quartiles]; a figure without quartiles was measured or counted once."]
    lines += [f"Before, {name}: {_footing(part)}" for name, part in content.get("before", {}).items()]
    return "\n".join(lines) + "\n"


def _value(goal: Goal, parts: Mapping[str, Any]) -> str:
    found = goal.figure(parts)
    if found is None:
        return NOT_MEASURED
    quick = " (quick sizes)" if parts[goal.part]["facts"]["quick"] else ""
    text, value = text_of(Figure(**found)), found["value"]
    if not goal.met(value) and round(value, 2) == round(goal.limit, 2):  # missed by less than is shown
        text = text.replace(shown(value), f"{value:.4g}", 1)
    return f"{text}{quick}"


def part(content: Mapping[str, Any], name: str) -> str:
    """All figures of one part, and how they came to be."""
    if name not in content["parts"]:
        return f"{NOT_MEASURED.capitalize()}: `python -m benchmarks {name}`.\n"
    found = content["parts"][name]
    lines = ["| what | figure | over | rounds |", "| --- | ---: | --- | ---: |"] if found["figures"] else []
    for each in found["figures"]:
        lines.append(f"| {each['name']} | {text_of(Figure(**each))} | {each['of'] or '-'} | {each['count']} |")
    return "\n".join([*lines, "", *(f"- {note}" for note in found["notes"]), "", _footing(found), ""])


def _footing(found: Mapping[str, Any]) -> str:
    facts = found["facts"]
    packages = ", ".join(f"{name} {version}" for name, version in facts["packages"].items() if name != "socket-fl")
    settings = "".join(f"{key} {value}; " for key, value in found["settings"].items())
    before, after = facts["load"]
    sizes = "Quick sizes, not to be quoted; " if facts["quick"] else ""
    return (
        f"{sizes}{settings}`{facts['command']}`; {facts['processor']}, {facts['device']}; load {before} before and "
        f"{after} after; {facts['date']}; Python {facts['python']}, {packages}."
    )
