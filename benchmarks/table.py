"""Figures as text for a terminal; :mod:`benchmarks.markdown` makes those of the documentation."""

from __future__ import annotations

from typing import Any

from benchmarks.record import Figure, Part


def shown(value: float) -> str:
    """A number with three significant digits and no exponent."""
    size = abs(value)
    if size < 1e-9:  # a slope that is nothing but rounding
        return "0"
    if size >= 100 or value == int(value):
        return f"{value:,.0f}"
    return f"{value:.1f}" if size >= 10 else f"{value:.2f}" if size >= 0.1 else f"{value:.3g}"


def text_of(figure: Figure) -> str:
    """Value, unit and quartiles."""
    quartiles = (
        f" [{shown(figure.low)}, {shown(figure.high)}]" if figure.low is not None and figure.high is not None else ""
    )
    return f"{shown(figure.value)} {figure.unit}{quartiles}"


def plain(name: str, part: Part, about: dict[str, Any]) -> str:
    """A part's table in columns."""
    width = max((len(f.name) for f in part.figures), default=0)
    lines = [f"== {name}: {', '.join(f'{k} {v}' for k, v in part.settings.items())}"]
    lines += [f"{f.name:{width}}  {text_of(f)}{f' (over {f.of})' if f.of else ''}" for f in part.figures]
    lines += part.notes
    loads = " and ".join(f"{load:.1f}" for load in about["load"])
    return "\n".join([*lines, f"{about['processor']}; load before and after {loads}"])
