"""What a comparison found, in three sentences worked out from its rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from server.differences import Compared, Difference, of_modes, signed
from server.privacy_cost import Cost, costs, epsilons_of
from server.results import Row

LISTED = 6
"""Of more than these a clause names the first, and how many there are besides."""


def answers(rows: Sequence[Row], facts: Mapping[str, Any]) -> tuple[str, str, str]:
    """What federating loses against centralising, what it gains over each site alone, and what privacy costs.

    Every row that can answer is named, none is chosen by its accuracy.

    Args:
        rows: Of a comparison.
        facts: The rest of the results file, for the settings.
    """
    return (
        _of_modes(rows, "Against centralising, federating ", of_modes(rows, "federated", "centralised"))
        or "What federating loses against centralising cannot be said: no method was run both ways.",
        _of_modes(rows, "Against each site alone, federating ", of_modes(rows, "federated", "local"))
        or "What federating gains over each site alone cannot be said: no method was run both ways.",
        _of_privacy(rows, facts),
    )


def _of_modes(rows: Sequence[Row], lead: str, found: Sequence[Compared]) -> str:
    if not found:
        return ""
    return lead + _clauses([(c.above[0], "", _collapsed(rows, c), c.found) for c in found]) + "."


def _of_privacy(rows: Sequence[Row], facts: Mapping[str, Any]) -> str:
    units = list(dict.fromkeys(unit for r in rows for _, unit in epsilons_of([r])))
    if not units:
        return "No row had differential privacy: what privacy costs was not measured, and epsilon is unbounded."
    found = costs(rows, facts)
    if not found:
        return (
            f"What differential privacy ({'; and '.join(units)}) costs cannot be said: no row has the same settings "
            "without it."
        )
    parts = []
    for kind in dict.fromkeys(tuple(unit for _, unit in c.epsilons) for c in found):
        own = [c for c in found if tuple(unit for _, unit in c.epsilons) == kind]
        items = [(" ".join(c.compared.above), _epsilon(c), _collapsed(rows, c.compared), c.compared.found) for c in own]
        against = " and ".join(dict.fromkeys(" ".join(c.compared.below) for c in own))
        also = ", ".join(dict.fromkeys(key for c in own for key in c.also))
        besides = f", which differs also in {also}" if also else ""
        parts.append(f"against {against}{besides}, differential privacy ({'; and '.join(kind)}) {_clauses(items)}")
    sentence = "; ".join(parts)
    return sentence[0].upper() + sentence[1:] + "."


def _epsilon(cost: Cost) -> str:
    return " and ".join(f"epsilon {value:.2f}" for value, _ in cost.epsilons)


def _collapsed(rows: Sequence[Row], compared: Compared) -> bool:
    return any(r.collapsed and (r.label, r.mode) in (compared.above, compared.below) for r in rows)


def _clauses(items: Sequence[tuple[str, str, bool, Difference]]) -> str:
    """Losses, gains and what is within noise; an item is a name, a remark, whether it collapsed, and a difference."""
    groups: dict[str, list[str]] = {"loses": [], "gains": [], "is within noise": []}
    for name, remark, collapsed, found in items:
        remarks = [remark] * bool(remark) + ["collapsed"] * collapsed
        if found.within_noise:
            groups["is within noise"].append(f"{name} ({'; '.join([f'{signed(found.mean)} points', *remarks])})")
            continue
        assert found.interval is not None  # else it would be noise
        low, high = sorted(abs(end) for end in found.interval)
        inner = "; ".join([f"95 % interval {low:.1f} to {high:.1f}", *remarks])
        groups["loses" if found.mean < 0 else "gains"].append(f"{abs(found.mean):.1f} points with {name} ({inner})")
    clauses = [f"{verb} {_listed(named)}" for verb, named in groups.items() if named and verb != "is within noise"]
    if noise := groups["is within noise"]:
        seeds = {found.seeds for *_, found in items if found.within_noise}
        verb = "cannot be told from noise" if seeds == {1} else "is within noise"
        clauses.append(f"{verb} ({_why(seeds)}) with {_listed(noise)}")
    return ", and ".join(clauses)


def _why(seeds: set[int]) -> str:
    reasons = ["the 95 % interval holds 0"] * any(n > 1 for n in seeds) + ["there is one seed"] * (1 in seeds)
    return ", or ".join(reasons)


def _listed(names: Sequence[str]) -> str:
    shown = list(names[:LISTED])
    if len(names) > LISTED:
        shown.append(f"{len(names) - LISTED} more")
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}"
