"""A held-out split for data sets that come without one that can be read. It is ours, not the publishers'."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import replace

from socket_core.data.index import View


def _order(name: str) -> bytes:
    return hashlib.sha256(name.encode(errors="surrogateescape")).digest()


def hashed_split(
    views: Iterable[View], fraction: float, names: tuple[str, str], unit: Callable[[View], str]
) -> tuple[View, ...]:
    """Holds out about ``fraction`` of the views of each sensor and class.

    Units are taken in the order of a hash of their name, so the split is the same on every machine and needs no
    seed. A unit is never cut; a class with a single unit is not held out.

    Args:
        views: The views, without a split.
        fraction: Share to hold out, between 0 and 1.
        names: Names of the training and of the test split.
        unit: What a view may not be separated from, for example its recording.

    Returns:
        The views with their split, sorted by split (training first), class and id.
    """
    groups: dict[tuple[str, str], dict[str, list[View]]] = {}
    for view in views:
        groups.setdefault((view.sensor, view.label), {}).setdefault(unit(view), []).append(view)
    parts: tuple[list[View], list[View]] = ([], [])
    for units in groups.values():
        wanted = fraction * sum(len(members) for members in units.values())
        held = 0
        for place, name in enumerate(sorted(units, key=_order)):
            members = units[name]
            last = place == len(units) - 1
            # Nearest to the share that whole units allow; the first always, the last never.
            test = not last and (place == 0 or held + len(members) / 2 <= wanted)
            held += len(members) if test else 0
            parts[test].extend(replace(view, split=names[test]) for view in members)
    return tuple(view for part in parts for view in sorted(part, key=lambda view: (view.label, view.id)))
