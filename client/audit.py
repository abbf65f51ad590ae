"""``socket-site audit``: what was spent on a site's TI pairs and on the site as a whole, and whether ledgers are whole.

Two books, of two units: epsilons of one are never added to those of the other.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from client.site import Site
from socket_core.errors import PolicyError
from socket_core.privacy.accounting import NOT_COVERED, RECORD, SITE, SITE_NOT_COVERED, Epsilon, Unit, epsilon
from socket_core.privacy.ledger import Charge, Ledger


def audit(site: Site) -> dict[str, Any]:
    """The ledger of TI pairs as plain values, after checking its chain and its data sets.

    Raises:
        PrivacyError: If there is no ledger, or it is missing, altered or damaged.
    """
    return _book(site, site.ledger_file, site.policy.privacy.epsilon, RECORD, NOT_COVERED)


def audit_whole_site(site: Site) -> dict[str, Any]:
    """The ledger of rounds that protect the site as a whole, likewise; its one "data set" is the site.

    Raises:
        PrivacyError: If there is no ledger, or it is missing, altered or damaged.
    """
    return _book(site, site.site_ledger_file, site.policy.privacy.site_epsilon, SITE, SITE_NOT_COVERED)


def _book(site: Site, path: Path, cap: float, unit: Unit, not_covered: tuple[str, ...]) -> dict[str, Any]:
    ledger, delta = Ledger(path, create=False), site.policy.privacy.delta
    charges = ledger.charges()
    sets = []
    for data in dict.fromkeys(charge.data for charge in charges):
        related = ledger.spent_on(data)
        jobs = dict.fromkeys(charge.job for charge in related)
        sets.append(
            {
                "data": data,
                "jobs": [_job(job, [c for c in related if c.job == job], delta, unit) for job in jobs],
                "total": _plain(epsilon([c.event for c in related], delta, unit)),
            }
        )
    return {
        "site": site.name,
        "ledger": str(ledger.path),
        "chain": "intact",
        "charges": len(charges),
        "delta": delta,
        "cap": cap,
        "unit": unit.text,
        "adjacency": unit.adjacency,
        "not_covered": list(not_covered),
        "data_sets": sets,
    }


def lines(found: dict[str, Any]) -> list[str]:
    """What :func:`audit` or :func:`audit_whole_site` found, as a table with words."""
    out = [
        f"site {found['site']}: {found['charges']} charges, chain {found['chain']}",
        f"epsilon at delta {found['delta']:g}; {found['unit']}; {found['adjacency']}",
    ]
    head = f"{'job':40} {'steps':>8} {'sigma':>12} {'RDP':>8} {'PLD':>8}  claim (the larger)"
    for own in found["data_sets"]:
        out += ["", _named(found, own) + _KIN[found["unit"]], head]
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
                f"{_named(found, own)} has spent epsilon {own['total']['claim']:.3f}, the cap is {found['cap']:g}",
                where=_CAP_KEYS[found["unit"]],
                remedy="no further round is allowed; what was released stays released",
            )


_KIN = {RECORD.text: " (and all sets that share a pair with it)", SITE.text: ""}
_CAP_KEYS = {unit.text: unit.cap_key for unit in (RECORD, SITE)}


def _named(found: dict[str, Any], own: dict[str, Any]) -> str:
    return "the site as a whole" if found["unit"] == SITE.text else f"set of TI pairs {own['data'][:16]}"


def _job(name: str, charges: list[Charge], delta: float, unit: Unit) -> dict[str, Any]:
    return {
        "job": name,
        "first": charges[0].time,
        "last": charges[-1].time,
        "rounds": len(charges),
        "steps": sum(charge.event.steps for charge in charges),
        "sigma": sorted({charge.event.sigma for charge in charges}),
        "sample_rate": sorted({charge.event.sample_rate for charge in charges}),
        "scope": sorted({str(charge.about.get("scope", "")) for charge in charges}),
        **_plain(epsilon([charge.event for charge in charges], delta, unit)),
    }


def _plain(found: Epsilon) -> dict[str, Any]:
    return {"rdp": found.rdp, "pld": found.pld, "claim": found.claim, "by": found.by, "delta": found.delta}


def _columns(found: dict[str, Any]) -> str:
    return f"{found['rdp']:8.3f} {found['pld']:8.3f}  {found['claim']:.3f} by {found['by']}"
