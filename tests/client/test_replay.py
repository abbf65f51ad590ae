"""Requests that were sent before: a site does again what it is asked again, and its ledger counts it again.

Nothing at the site tells a replayed request from a resumed server's, which has every right to ask for a round twice.
What keeps strangers from asking is the transport; what keeps anybody from asking too often is the budget.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from client import handlers
from client.app import app
from protos.codec import ENROL, SCHEMA_VERSION, decode, encode
from protos.wire_pb2 import REASON_SCHEMA, EnrolRequest, Refusal
from socket_core.privacy.ledger import BudgetError
from tests.client.auditing import Asked, is_update
from tests.server.builders import World, message_to


def test_a_replayed_request_is_charged_like_a_new_one(world: World, tmp_path: Path) -> None:
    asked = Asked(world, tmp_path)
    first, second = asked.request(1), asked.request(2)
    for request in (first, second, first, first):
        assert is_update(handlers.train_round(asked.site, request))
    assert [charge.about["round"] for charge in asked.charges()] == [1, 2, 1, 1]
    assert asked.failed() == []


def test_a_job_is_answered_as_often_as_it_planned_whatever_round_it_asks_for(world: World, tmp_path: Path) -> None:
    asked = Asked(world, tmp_path)
    assert asked.bench.experiment.privacy is not None
    planned = asked.bench.experiment.privacy.model_copy(update={"sigma": None, "epsilon": 2.0})
    first = asked.request(1, privacy=planned)
    for _ in range(asked.bench.experiment.federation.rounds):
        handlers.train_round(asked.site, first)
    with pytest.raises(BudgetError, match="the run allows 2"):
        handlers.train_round(asked.site, asked.request(2, privacy=planned))
    assert [charge.about["round"] for charge in asked.charges()] == [1, 1, 1]
    assert asked.left().count("Update") == 3
    assert asked.failed() == []


@pytest.mark.parametrize("version", [SCHEMA_VERSION - 1, SCHEMA_VERSION + 1], ids=["older", "newer"])
def test_a_message_of_another_schema_is_answered_with_that_reason(world: World, tmp_path: Path, version: int) -> None:
    asked = Asked(world, tmp_path)
    request = EnrolRequest(experiment="job-1", release_digest=asked.bench.release.info.digest)
    records = encode(request)
    request.schema_version = version
    records.config_records["wire"]["payload"] = request.SerializeToString()
    answer = app(message_to(records, ENROL), asked.bench.context(0, 1)).content
    assert decode(answer, Refusal).reason == REASON_SCHEMA


def test_a_clock_that_goes_backwards_changes_nothing_in_the_books(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ledger and journal are told to agree by their order and codes; times are for people."""
    asked = Asked(world, tmp_path)
    for round_, time in enumerate(("2031-01-01T00:10:00+00:00", "2031-01-01T00:00:00+00:00"), start=1):
        monkeypatch.setattr("socket_core.privacy.ledger._now", lambda time=time: time)
        asked.train(round_)
    assert [charge.time[14:16] for charge in asked.charges()] == ["10", "00"]
    assert asked.failed() == []
