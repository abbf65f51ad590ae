"""``socket-site audit``: what was spent on a site's TI pairs, and whether the ledger is whole."""

from __future__ import annotations

from typing import Any

from client.site import Site
from socket_core.errors import PolicyError
from socket_core.privacy.accounting import ADJACENCY, NOT_COVERED, UNIT, Epsilon, epsilon
from socket_core.privacy.ledger import Charge, Ledger


def audit(site: Site) -> dict[str, Any]:
    """The ledger's content as plain values, after checking its chain and its data sets.

    Raises:
        PrivacyError: If there is no ledger, or it is missing, altered or damaged.
    """
    ledger, cap = Ledger(site.ledger_file, create=False), site.policy.privacy
    charges = ledger.charges()
    sets = []
    for data in dict.fromkeys(charge.data for charge in charges):
        related = ledger.spent_on(data)
        jobs = dict.fromkeys(charge.job for charge in related)
        sets.append(
            {
                "data": data,
                "jobs": [_job(job, [c for c in related if c.job == job], cap.delta) for job in jobs],
                "total": _plain(epsilon([c.event for c in related], cap.delta)),
            }
        )
    return {
        "site": site.name,
        "ledger": str(ledger.path),
        "chain": "intact",
        "charges": len(charges),
        "delta": cap.delta,
        "cap": cap.epsilon,
        "unit": UNIT,
        "adjacency": ADJACENCY,
        "not_covered": list(NOT_COVERED),
        "data_sets": sets,
    }


def lines(found: dict[str, Any]) -> list[str]:
    """What :func:`audit` found, as a table with words."""
    out = [
        f"site {found['site']}: {found['charges']} charges, chain {found['chain']}",
        f"epsilon at delta {found['delta']:g}; {found['unit']}; {found['adjacency']}",
    ]
    head = f"{'job':40} {'steps':>8} {'sigma':>12} {'RDP':>8} {'PLD':>8}  claim (the larger)"
    for own in found["data_sets"]:
        out += ["", f"TI pairs {own['data'][:16]} (and all sets that share a pair with them)", head]
        for job in own["jobs"]:
            sigma = ", ".join(f"{value:g}" for value in job["sigma"])
            out.append(f"{job['job'][:40]:40} {job['steps']:>8} {sigma:>12} {_columns(job)}")
        out.append(f"{'in total, composed and not added up':62} {_columns(own['total'])} of at most {found['cap']:g}")
    return [*out, "", *(f"not covered: {what}" for what in found["not_covered"])]


def check_cap(found: dict[str, Any]) -> None:
    """Refuses a total above the policy's cap, as after the cap was lowered.

    Raises:
        PolicyError: Naming the data set.
    """
    for own in found["data_sets"]:
        if own["total"]["claim"] > found["cap"]:
            raise PolicyError(
                f"TI pairs {own['data'][:16]} have spent epsilon {own['total']['claim']:.3f}, the cap is "
                f"{found['cap']:g}",
                where="policy.privacy.epsilon",
                remedy="no further round with them is allowed; what was released stays released",
            )


def _job(name: str, charges: list[Charge], delta: float) -> dict[str, Any]:
    return {
        "job": name,
        "first": charges[0].time,
        "last": charges[-1].time,
        "rounds": len(charges),
        "steps": sum(charge.event.steps for charge in charges),
        "sigma": sorted({charge.event.sigma for charge in charges}),
        "sample_rate": sorted({charge.event.sample_rate for charge in charges}),
        "scope": sorted({str(charge.about.get("scope", "")) for charge in charges}),
        **_plain(epsilon([charge.event for charge in charges], delta)),
    }


def _plain(found: Epsilon) -> dict[str, Any]:
    return {"rdp": found.rdp, "pld": found.pld, "claim": found.claim, "by": found.by, "delta": found.delta}


def _columns(found: dict[str, Any]) -> str:
    return f"{found['rdp']:8.3f} {found['pld']:8.3f}  {found['claim']:.3f} by {found['by']}"
