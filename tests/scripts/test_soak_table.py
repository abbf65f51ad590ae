"""The soak's report as text."""

from __future__ import annotations

from typing import Any

import soak_table


def _report(**changes: Any) -> dict[str, Any]:
    memory = {"SuperLink": {"mb_a_round": 0.126, "rounds": 20, "lives": 2, "largest_mb": 200}}
    return {
        "settings": {"sites": 3, "rounds": 4, "seed": 1},
        "minutes": 5.4,
        "complete": True,
        "rounds": True,
        "fewest_sites_in_a_round": 2,
        "failed_checks": {"north": []},
        "processes_gone": True,
        "ports_closed": True,
        "faults": {"release cut": 1, "site stopped": 2},
        "memory": memory,
        "memory_note": "Within lives.",
        "command": "make soak",
        "machine": "a machine",
        "packages": {"flwr": "1.39.0"},
        **changes,
    }


def test_what_went_well_is_said() -> None:
    text = soak_table.markdown(_report())
    assert "3 sites, 4 rounds, 5 minutes: all rounds are there, with at least 2 sites in each" in text
    assert "the books of all sites hold; no process and no port is left. Faults: site stopped 2, release cut 1." in text
    assert "| SuperLink | +0.13 | 20 | 2 | 200 |" in text
    assert "`make soak`; seed 1; a machine; flwr 1.39.0." in text


def test_what_went_wrong_is_not_hidden() -> None:
    text = soak_table.markdown(_report(rounds=False, ports_closed=False, failed_checks={"north": ["ledger_chain"]}))
    assert "**rounds are missing**" in text
    assert "**books that fail: north**" in text
    assert "**processes or ports are left**" in text
