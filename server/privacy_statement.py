"""The privacy statement in words: what each epsilon of a comparison covers, what it does not, and what none covers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from server import report
from server.privacy_cost import epsilons_of
from server.results import Row
from socket_core.privacy.accounting import NOT_COVERED, RECORD, SITE, SITE_NOT_COVERED, Unit

RECORD_COVERS = (
    "whether one TI pair was among a site's: whoever sees all that the site sends in the whole job, the owner too, "
    "finds that out at most e^epsilon times as often as by false alarm, and delta more, whatever else is known",
    "all rounds of the job together, at each site for itself; a pair that several sites hold costs the sum",
)
SITE_COVERS = (
    "whether one site's changes, of all its images, are in the global models: whoever sees those of the whole job, "
    "other sites too, finds that out at most e^epsilon times as often as by false alarm, and delta more",
    "what the owner sees of single sites only where the sites add the noise, and then with the sigma that is named",
)
CAREFUL = (
    "Epsilon is of the whole job, by the more cautious of two accountants; epsilons of rounds, of seeds and of "
    "different units are never added."
)
UNCOVERED = (
    "the owner's source images: the model and its BatchNorm statistics go to every site",
    "the sites' task-relevant images, but for an epsilon of a whole site",
    "what weight changes say of these images: without noise at the sites or secure aggregation the owner sees those of "
    "each single site",
)
SIMULATED = (
    "Accuracy by site, classes by site and example images are in this report because its sites are simulated and their "
    "labels known. A deployed site sends none of them, but counts of labelled images that it has put aside where its "
    "policy lets them leave."
)


class Part(NamedTuple):
    """A sentence, and what it lists."""

    lead: str
    items: tuple[str, ...] = ()


def statement(rows: Sequence[Row]) -> list[Part]:
    """The whole statement, in the order in which it is read.

    Args:
        rows: Of a comparison.
    """
    out = [Part("Spent:", tuple(report.privacy(rows) or ["nothing was trained"]))]
    if any(r.epsilon is not None for r in rows):
        out += _of_unit(RECORD, RECORD_COVERS, NOT_COVERED)
    if any(r.site_epsilon is not None for r in rows):
        out += _of_unit(SITE, SITE_COVERS, SITE_NOT_COVERED)
    if any(epsilons_of([r]) for r in rows):
        out.append(Part(CAREFUL))
    if any(r.mode == "federated" for r in rows):
        out.append(Part("Covered by no epsilon of a TI pair, nor where no epsilon is named:", UNCOVERED))
    if any(r.by_site or r.said for r in rows):
        out.append(Part(SIMULATED))
    return out


def _of_unit(unit: Unit, covers: tuple[str, ...], not_covered: tuple[str, ...]) -> list[Part]:
    return [
        Part(f"Unit: {unit.text}. Adjacency: {unit.adjacency}. Its epsilon covers:", covers),
        Part("Not covered by it:", not_covered),
    ]
