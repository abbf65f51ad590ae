"""Federated against centralised at equal rounds, beside the table's equal sample visits.

A round of the centralised arm has the steps of all N sites: round for round both sides have seen as many images, but
the one centralised model is N times as many optimiser steps deep as any site's. After r of its rounds it has taken
``r * N * steps`` steps one after the other, as a federated model has after ``r * N`` rounds. Both are points of
measured curves: nothing is interpolated, and where the number of rounds is no multiple of N the last such point is
the last one there is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from server.differences import Difference
from server.privacy_cost import settings
from server.report import padded_curves
from server.results import Row, mean_and_spread

MEANING = (
    "The accuracy table is at equal sample visits: a centralised round has the steps of all N sites. Here one model is "
    "as many steps deep as the other: after r centralised rounds, and after r times N federated rounds of one site's "
    "steps. The centralised model has then seen one N-th as many images as the sites together, and is in the middle of "
    "its learning-rate schedule. Points are those of the curves, none is interpolated; rounds that train a translator "
    "count."
)
HEADINGS = ("method", "federated", "centralised", "federated - centralised")


class Equal(NamedTuple):
    """A label at one depth.

    Attributes:
        label: The label.
        rounds: Federated rounds; the centralised arm has run ``rounds / sites``.
        sites: N.
        federated: Accuracy of each seed there, in per cent.
        centralised: Likewise.
    """

    label: str
    rounds: int
    sites: int
    federated: tuple[float, ...]
    centralised: tuple[float, ...]

    @property
    def difference(self) -> Difference:
        """Federated minus centralised, paired by seed."""
        points = [a - b for a, b in zip(self.federated, self.centralised, strict=True)]
        return Difference(*mean_and_spread(points), len(points))


def at_equal_rounds(rows: Sequence[Row], facts: Mapping[str, Any]) -> list[Equal]:
    """Every depth at which both sides of a label have a point, by label; seeds that both have.

    Labels without optimiser steps, and those whose number of sites the results file does not tell, are left out.
    Where patience ended a job, its last accuracy stays.

    Args:
        rows: Of a comparison.
        facts: The rest of the results file, for the number of sites.
    """
    out = []
    for label in dict.fromkeys(r.label for r in rows if r.mode == "federated" and r.steps > 0):
        sides = [{r.seed: r for r in rows if (r.label, r.mode) == (label, m)} for m in ("federated", "centralised")]
        seeds = sorted(sides[0].keys() & sides[1].keys())
        if not seeds:
            continue
        sites = settings(label, sides[0][seeds[0]].method, facts).get("federation.sites")
        if not isinstance(sites, int) or sites < 1:
            continue
        federated, centralised = ([side[seed] for seed in seeds] for side in sides)
        curves, others = _long(federated), _long(centralised)
        out += [
            Equal(label, depth, sites, _at(curves, depth), _at(others, depth // sites))
            for depth in range(sites, max(r.rounds for r in federated) + 1, sites)
        ]
    return out


def _long(rows: Sequence[Row]) -> list[list[float]]:
    """Curves in per cent that reach the last round."""
    rounds = max(r.rounds for r in rows)
    return [
        [100 * value for value in [*curve, *curve[-1:] * (rounds + 1 - len(curve))]] for curve in padded_curves(rows)
    ]


def _at(curves: Sequence[Sequence[float]], round_: int) -> tuple[float, ...]:
    return tuple(curve[round_] for curve in curves)


def lines(found: Sequence[Equal]) -> list[tuple[str, ...]]:
    """As text for a table with :data:`HEADINGS`."""
    return [
        (
            equal.label,
            f"{figures(equal.federated)} (round {equal.rounds})",
            f"{figures(equal.centralised)} (round {equal.rounds // equal.sites})",
            equal.difference.text(),
        )
        for equal in found
    ]


def figures(values: Sequence[float]) -> str:
    """Mean and spread over seeds."""
    mean, spread = mean_and_spread(values)
    return f"{mean:.1f}" + (f" ± {spread:.1f}" if spread is not None else "")
