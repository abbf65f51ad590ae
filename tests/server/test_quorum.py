"""Too few usable updates: the run ends with names and reasons, and can be resumed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from flwr.app import Message, RecordDict

from protos.codec import decode, refusal
from protos.wire_pb2 import REASON_POLICY, Update
from socket_core.errors import FederationError
from tests.server.builders import BAD_NODE, Change, ChangingGrid, World, edited, lost, same_state, short_bench, tree


def _failing_from(round_: int) -> Change:
    """A node whose updates are lost from a round on."""

    def change(message: Message, reply: Message | None) -> Message | None:
        assert reply is not None
        return lost(message, reply) if decode(reply.content, Update).round >= round_ else reply

    return change


def test_below_the_quorum_it_stops_naming_sites_and_reasons_and_can_be_resumed(world: World, tmp_path: Path) -> None:
    reference = short_bench(world, tmp_path / "reference")
    expected = reference.run()

    bench = short_bench(world, tmp_path / "broken")
    grid = ChangingGrid(bench.contexts(), {BAD_NODE: _failing_from(2), 102: edited(_refusing_from_2)})
    with pytest.raises(FederationError) as caught:
        bench.run(grid)
    text = str(caught.value)
    assert "1 usable updates in round 2, the quorum is 2" in text
    assert "site-01: site_error" in text
    assert "site-02: refused: policy" in text
    assert 'resume="yes"' in text
    assert caught.value.where == "federation.quorum"
    assert sorted(tree(bench.job_home / "checkpoints")) == ["round-00001.safetensors"]
    assert [r["round"] for r in bench.records()] == [1]

    assert same_state(bench.run(resume="yes"), expected)
    assert [r["sites"] for r in bench.records()] == [r["sites"] for r in reference.records()]


def _refusing_from_2(update: Update, _arrays: dict[str, Any]) -> RecordDict | None:
    return refusal("site-02", REASON_POLICY) if update.round >= 2 else None


def test_the_quorum_may_be_missed_in_the_first_round(world: World, tmp_path: Path) -> None:
    bench = short_bench(world, tmp_path)
    with pytest.raises(FederationError, match="0 usable updates in round 1"):
        bench.run(ChangingGrid(bench.contexts(), dict.fromkeys(bench.contexts(), lost)))
    assert tree(bench.job_home) == {"rounds.jsonl": b""}
    bench.run(resume="yes")
    assert len(bench.records()) == 2


def test_sites_that_did_not_enrol_are_among_the_reasons(world: World, tmp_path: Path) -> None:
    bench = short_bench(world, tmp_path, federation__enrol_seconds=1.5)

    def refuses(message: Message, _reply: Message | None) -> Message | None:
        return Message(refusal("", REASON_POLICY), reply_to=message)

    grid = ChangingGrid(bench.contexts(), {BAD_NODE: refuses, 102: lost}, types=("query.enrol",))
    with pytest.raises(FederationError, match=r"node 101 did not enrol: policy; node 102 did not enrol: site_error"):
        bench.run(grid)


def test_sites_that_fail_at_first_are_asked_again_until_there_is_a_quorum(world: World, tmp_path: Path) -> None:
    bench, asked = short_bench(world, tmp_path, federation__quorum=3), []

    def fails_once(message: Message, reply: Message | None) -> Message | None:
        asked.append(message)
        return lost(message, reply) if len(asked) == 1 else reply

    bench.run(ChangingGrid(bench.contexts(), {BAD_NODE: fails_once}, types=("query.enrol",)))
    assert len(asked) == 2
    assert [r["sites"] for r in bench.records()] == [["site-00", "site-01", "site-02"]] * 2
