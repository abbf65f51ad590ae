"""Which rows of a comparison say what differential privacy costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from server.differences import Compared, between
from server.results import Row


class Cost(NamedTuple):
    """A row with differential privacy against its nearest one without.

    Attributes:
        compared: The difference.
        epsilons: Of the row with DP, each with its unit, adjacency and delta: of different units, never to be added.
        also: Further settings in which the two differ, such as ``method.ti_views``; usually none.
    """

    compared: Compared
    epsilons: tuple[tuple[float, str], ...]
    also: tuple[str, ...]


def epsilons_of(rows: Sequence[Row]) -> tuple[tuple[float, str], ...]:
    """Record-level epsilon, then that of a whole site, with their units; of each the seed that spent most."""
    found: dict[int, tuple[float, str]] = {}
    for row in rows:
        for i, (value, unit) in enumerate(((row.epsilon, row.epsilon_unit), (row.site_epsilon, row.site_epsilon_unit))):
            if value is not None and (i not in found or value > found[i][0]):
                found[i] = value, unit
    return tuple(found[i] for i in sorted(found))


def costs(rows: Sequence[Row], facts: Mapping[str, Any]) -> list[Cost]:
    """Each label and mode with DP against the one without that has the same method, mode and most settings in common.

    Data, network and federation must be the same. Rows of which there is no such counterpart are left out.

    Args:
        rows: Of a comparison.
        facts: The rest of the results file, for the settings.
    """
    by = {(r.label, r.mode): [x for x in rows if (x.label, x.mode) == (r.label, r.mode)] for r in rows}
    plain = {key: of for key, of in by.items() if not epsilons_of(of) and not of[0].oracle}
    out = []
    for key, of in by.items():
        if not (spent := epsilons_of(of)):
            continue
        own, method = settings(key[0], of[0].method, facts), of[0].method
        candidates = []
        for other, without in plain.items():
            if other[1] != key[1] or without[0].method != method:
                continue
            also = _differing(own, settings(other[0], method, facts))
            if all(name.startswith("method.") for name in also):
                candidates.append((other, tuple(also)))
        for other, also_in in sorted(candidates, key=lambda c: len(c[1]))[:1]:
            if (found := between(rows, key, other)) is not None:
                out.append(Cost(Compared(key, other, found), spent, also_in))
    return out


def settings(label: str, method: str, facts: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of a label by dotted key, without its name and what it asks of privacy."""
    variants = facts.get("variants", {})
    flat = _flat(variants.get(label, facts.get("experiment", {})))
    flat["method.name"] = method
    return {key: v for key, v in flat.items() if key != "name" and key.split(".")[0] not in ("privacy", "site_privacy")}


def _flat(values: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(values, dict) or not values:
        return {prefix: values} if prefix else {}
    out: dict[str, Any] = {}
    for key, value in values.items():
        out |= _flat(value, f"{prefix}.{key}" if prefix else str(key))
    return out


def _differing(a: dict[str, Any], b: dict[str, Any]) -> list[str]:
    return sorted(key for key in a.keys() | b.keys() if a.get(key) != b.get(key))
