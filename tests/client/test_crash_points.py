"""Wherever a site dies between charge and upload, the ledger counts enough, and the next try goes on from there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from client import handlers
from client.egress import seal
from client.journal import Journal
from client.store import SiteStore
from socket_core.engine import adapt
from socket_core.privacy.accounting import rdp_epsilon
from socket_core.privacy.ledger import Account, BudgetError, Limits
from tests.client.auditing import Asked, is_update
from tests.server.builders import Kill, World


def _die(*_: Any, **__: Any) -> None:
    raise Kill


def _die_after(function: Callable[..., Any]) -> Callable[..., Any]:
    def call(*arguments: Any, **named: Any) -> None:
        function(*arguments, **named)
        raise Kill

    return call


POINTS: dict[str, tuple[object, str, Callable[..., Any], int, int]] = {
    "before the charge": (Account, "charge", _die, 0, 0),
    "after the charge": (Account, "charge", _die_after(Account.charge), 1, 0),
    "after training": (handlers, "adapt", _die_after(adapt), 1, 0),
    "after its state was kept": (SiteStore, "save_batchnorm", _die_after(SiteStore.save_batchnorm), 1, 0),
    "before the journal's line": (Journal, "write", _die, 1, 0),
    "after the journal's line": (Journal, "write", _die_after(Journal.write), 1, 1),
    "before the answer": (handlers, "seal", _die_after(seal), 1, 1),
}
"""Where, what happens there, and charges and updates on the disk afterwards."""


@pytest.mark.parametrize(("owner", "name", "act", "charged", "left"), POINTS.values(), ids=POINTS.keys())
def test_the_ledger_counts_enough_and_the_next_try_goes_on(
    world: World,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    owner: object,
    name: str,
    act: Callable[..., Any],
    charged: int,
    left: int,
) -> None:
    asked = Asked(world, tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(owner, name, act)
        with pytest.raises(Kill):
            asked.train()
    assert len(asked.charges()) == charged
    assert asked.left().count("Update") == left <= charged
    assert asked.failed() == []

    assert is_update(asked.train())
    assert [charge.about["round"] for charge in asked.charges()] == [1] * (charged + 1)
    assert asked.left().count("Update") == left + 1
    assert asked.failed() == []


def test_a_budget_for_one_round_is_used_up_by_a_round_that_crashed(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = Asked(world, tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(handlers, "adapt", _die_after(adapt))
        with pytest.raises(Kill):
            asked.train()
    spent = asked.charges()[0].event
    cap = Limits(1.01 * rdp_epsilon([spent], 1e-5), 1e-5)
    monkeypatch.setattr("client.site.limits", lambda *_: cap)
    with pytest.raises(BudgetError):
        asked.train()
    assert len(asked.charges()) == 1
    assert "Update" not in asked.left()
    assert asked.failed() == []
