"""Enrolment: who takes part, under which name, and who gets the release."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from flwr.app import ConfigRecord, Context, Error, Message, RecordDict

from protos.codec import ENROL, RELEASE, SCHEMA_VERSION, arrays_of, decode, encode, refusal
from protos.wire_pb2 import REASON_POLICY, REASON_RELEASE, Enrolment, EnrolRequest, Refusal, ReleaseFiles
from server import enrolment
from server.enrolment import Roll, enrol, wait_for_nodes
from server.local_grid import LocalGrid
from socket_core.errors import FederationError
from socket_core.release import MANIFEST, SIGNATURE, WEIGHTS

FILES = {MANIFEST: b"manifest", SIGNATURE: b"signature", WEIGHTS: b"weights" * 10}
Answer = Callable[[Message], Message | None]


def as_site(name: str, *, has_release: bool = True, after: str | None = None) -> Answer:
    """A site that enrols as ``name``, and as ``after`` once it has the release."""

    def answer(message: Message) -> Message:
        late = message.metadata.message_type == RELEASE
        site = (name if after is None else after) if late else name
        return Message(
            encode(Enrolment(site=site, modality="depth", has_release=has_release or late)), reply_to=message
        )

    return answer


def with_records(records: RecordDict) -> Answer:
    return lambda message: Message(records, reply_to=message)


class Grid(LocalGrid):
    """Nodes that answer as told."""

    def __init__(self, answers: dict[int, Answer]) -> None:
        super().__init__(
            lambda message, context: answers[context.node_id](message),
            {n: Context(run_id=1, node_id=n, node_config={}, state=RecordDict(), run_config={}) for n in answers},
        )
        self.asked: list[tuple[str, int]] = []
        self.contents: dict[str, RecordDict] = {}

    def deliver(self, message: Message) -> Message | None:
        self.asked.append((message.metadata.message_type, message.metadata.dst_node_id))
        self.contents[message.metadata.message_type] = message.content
        return super().deliver(message)


def run(grid: Grid, roll: Roll, *, seconds: float = 5.0, files: dict[str, bytes] | None = None) -> int:
    return enrol(
        grid,
        roll,
        sorted(grid.get_node_ids()),
        experiment="job",
        releases={"d" * 64: lambda: FILES if files is None else files},
        deadline_seconds=seconds,
    )


def test_sites_that_hold_the_release_are_enrolled_without_it() -> None:
    roll, grid = Roll(), Grid({3: as_site("north"), 5: as_site("south")})
    assert run(grid, roll, files={}) == 0
    assert (roll.sites, roll.refused) == ({3: "north", 5: "south"}, {})
    request = decode(grid.contents[ENROL], EnrolRequest)
    assert (request.experiment, request.release_digest) == ("job", "d" * 64)


def test_the_release_goes_only_to_those_who_lack_it() -> None:
    roll, grid = Roll(), Grid({3: as_site("north"), 5: as_site("south", has_release=False)})
    assert run(grid, roll) == sum(map(len, FILES.values()))
    assert roll.sites == {3: "north", 5: "south"}
    assert [node for kind, node in grid.asked if kind == RELEASE] == [5]
    sent = grid.contents[RELEASE]
    files = decode(sent, ReleaseFiles)
    assert (files.manifest, files.signature) == (b"manifest", b"signature")
    assert arrays_of(sent, {"weights": ("uint8", 70)})["weights"].tobytes() == FILES[WEIGHTS]


def test_nobody_is_asked_twice() -> None:
    roll, grid = Roll(), Grid({3: as_site("north"), 5: with_records(refusal("south", REASON_POLICY))})
    run(grid, roll)
    grid.asked.clear()
    run(grid, roll)
    assert grid.asked == []


def test_a_newcomer_is_asked_and_the_others_are_not() -> None:
    answers = {3: as_site("north")}
    roll = Roll()
    run(Grid(answers), roll)
    grid = Grid(answers | {4: as_site("east", has_release=False)})
    run(grid, roll)
    assert grid.asked == [(ENROL, 4), (RELEASE, 4)]
    assert roll.sites == {3: "north", 4: "east"}


@pytest.mark.parametrize("has_release", [True, False])
def test_a_name_that_is_taken_is_refused_to_the_second(has_release: bool) -> None:
    one, two = as_site("north", has_release=has_release), as_site("north", has_release=has_release)
    roll = Roll()
    run(Grid({9: two, 2: one}), roll)
    assert (roll.sites, roll.refused) == ({2: "north"}, {9: "duplicate_site"})


def test_a_name_that_is_taken_by_a_site_of_an_earlier_round_is_refused() -> None:
    roll = Roll(sites={1: "north"})
    run(Grid({1: as_site("north"), 2: as_site("north")}), roll)
    assert (roll.sites, roll.refused) == ({1: "north"}, {2: "duplicate_site"})


def test_a_site_comes_back_under_another_node_id_when_its_old_node_is_gone() -> None:
    roll = Roll(sites={1: "north", 3: "south"})
    run(Grid({2: as_site("north")}), roll)
    assert (roll.sites, roll.refused, roll.absent) == ({2: "north"}, {}, {"south"})


def test_silence_is_asked_again_and_a_refusal_is_not() -> None:
    roll = Roll(refused={1: "no_reply", 2: "site_error", 3: "policy"})
    run(Grid({1: as_site("north"), 2: as_site("south"), 3: as_site("east")}), roll)
    assert (roll.sites, roll.refused) == ({1: "north", 2: "south"}, {3: "policy"})


def test_a_site_that_takes_another_name_after_the_release_cannot_take_one_that_is_taken() -> None:
    roll = Roll()
    run(Grid({2: as_site("north"), 3: as_site("south", has_release=False, after="north")}), roll)
    assert (roll.sites, roll.refused) == ({2: "north"}, {3: "duplicate_site"})


@pytest.mark.parametrize("name", ["", "x" * 65])
def test_a_name_that_cannot_be_used_is_refused(name: str) -> None:
    roll = Roll()
    run(Grid({2: as_site(name), 3: as_site("y" * 64)}), roll)
    assert roll.sites == {3: "y" * 64}
    assert list(roll.refused) == [2]


def _later_reason() -> RecordDict:
    message = Refusal(site="north")
    message.MergeFromString(b"\x18\x63")  # field 3, value 99
    return encode(message)


def _later_schema() -> RecordDict:
    records = encode(Enrolment(site="north"))
    records["wire"] = ConfigRecord(
        {"kind": "Enrolment", "payload": Enrolment(schema_version=SCHEMA_VERSION + 1, site="north").SerializeToString()}
    )
    return records


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (with_records(refusal("north", REASON_POLICY)), "policy"),
        (with_records(refusal("north", REASON_RELEASE)), "release"),
        (with_records(_later_reason()), "99"),
        (with_records(_later_schema()), f"schema version {SCHEMA_VERSION + 1}"),
        (with_records(RecordDict()), "malformed"),
        (with_records(encode(EnrolRequest(experiment="job"))), "malformed"),
        (lambda message: Message(Error(3, "/home/anna/site.yaml"), reply_to=message), "site_error"),
        (lambda message: None, "no_reply"),
    ],
)
def test_whoever_does_not_enrol_is_left_out_with_a_reason(answer: Answer, reason: str) -> None:
    roll = Roll()
    run(Grid({2: answer, 3: as_site("south")}), roll, seconds=0.3)
    assert roll.sites == {3: "south"}
    assert reason in roll.refused[2]
    assert "anna" not in roll.refused[2]


def test_a_site_that_does_not_accept_the_release_is_left_out() -> None:
    def wary(message: Message) -> Message:
        if message.metadata.message_type == RELEASE:
            return Message(refusal("north", REASON_RELEASE), reply_to=message)
        return Message(encode(Enrolment(site="north", has_release=False)), reply_to=message)

    roll = Roll()
    run(Grid({2: wary, 3: as_site("south", has_release=False)}), roll)
    assert (roll.sites, roll.refused) == ({3: "south"}, {2: "release"})


# --- waiting


class Arriving:
    """Nodes that come online one after the other."""

    def __init__(self, *times: float) -> None:
        self.start, self.times = time.monotonic(), times

    def get_node_ids(self) -> list[int]:
        past = time.monotonic() - self.start
        return [100 - i for i, at in enumerate(self.times) if at <= past]


def waiting(times: tuple[float, ...], **kwargs: Any) -> list[int]:
    grid: Any = Arriving(*times)
    return wait_for_nodes(grid, **kwargs)


def test_all_expected_sites_are_waited_for() -> None:
    assert waiting((0, 0.3), expected=2, quorum=1, seconds=10) == [99, 100]


def test_with_a_quorum_a_missing_site_is_not_waited_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(enrolment, "SETTLE_SECONDS", 0.1)
    started = time.monotonic()
    assert waiting((0, 0), expected=3, quorum=2, seconds=60) == [99, 100]
    assert time.monotonic() - started < 10


def test_without_a_quorum_in_time_the_error_says_how_many_came() -> None:
    with pytest.raises(FederationError, match=r"(?s)1 sites after .* the quorum is 2.*lower the quorum"):
        waiting((0,), expected=3, quorum=2, seconds=0.1)


def test_a_quorum_that_is_there_when_time_is_up_is_enough() -> None:
    assert waiting((0, 0.25), expected=3, quorum=2, seconds=0.5) == [99, 100]


def test_nothing_is_written_by_enrolment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run(Grid({3: as_site("../../north")}), Roll())
    assert list(tmp_path.iterdir()) == []
