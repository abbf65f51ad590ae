"""Exchanges over a grid: replies are matched by the message that they answer, before a deadline."""

from __future__ import annotations

import time
import weakref
from collections.abc import Iterable, Iterator
from typing import Any

import pytest
from flwr.app import Context, Error, Message, RecordDict

from protos.codec import TRAIN, encode, kind_of
from protos.wire_pb2 import EnrolRequest
from server.local_grid import LocalGrid
from server.messaging import IN_FLIGHT_BYTES, collect, exchange

NODES = (11, 12, 13)


def echo(message: Message, _context: Context) -> Message:
    """A node that sends back what it got."""
    return Message(message.content, reply_to=message)


def contexts() -> dict[int, Context]:
    return {n: Context(run_id=1, node_id=n, node_config={}, state=RecordDict(), run_config={}) for n in NODES}


class Grid(LocalGrid):
    """Echoing nodes, some of them late, gone, silent or chatty."""

    def __init__(
        self,
        *,
        late: dict[int, float] | None = None,
        gone: tuple[int, ...] = (),
        silent: tuple[int, ...] = (),
        twice: bool = False,
    ) -> None:
        super().__init__(echo, contexts())
        self.late, self.gone, self.silent, self.twice = late or {}, gone, silent, twice
        self.pulled: list[list[str]] = []
        self.pushed: list[Message] = []

    def push_messages(self, messages: Iterable[Message]) -> list[str]:
        identifiers = []
        for message in messages:
            self.pushed.append(message)
            here = message.metadata.dst_node_id not in self.gone
            identifiers += super().push_messages([message]) if here else [""]
        return identifiers

    def deliver(self, message: Message) -> Message | None:
        return None if message.metadata.dst_node_id in self.silent else super().deliver(message)

    def delay(self, message: Message) -> float:
        return self.late.get(message.metadata.dst_node_id, 0.0)

    def pull_messages(self, message_ids: Iterable[str]) -> list[Message]:
        wanted = list(message_ids)
        self.pulled.append(wanted)
        ready = super().pull_messages(wanted)
        return ready + ready if self.twice else ready


def ask(grid: Grid, deadline: float = 5.0) -> dict[int, Message | None]:
    requests = {node: encode(EnrolRequest(experiment=f"for {node}")) for node in NODES}
    return collect(grid, requests, TRAIN, group="g", deadline_seconds=deadline)


def counted(grid: Grid, deadline: float, reply_bytes: int = 0) -> tuple[list[int], list[int]]:
    """Nodes whose replies were taken, in order, and silent ones."""
    requests = {node: encode(EnrolRequest(experiment=f"for {node}")) for node in NODES}
    taken: list[int] = []
    silent = exchange(
        grid,
        [requests],
        TRAIN,
        group="g",
        deadline_seconds=deadline,
        take=lambda node, _reply: taken.append(node),
        reply_bytes=reply_bytes,
    )
    return taken, silent


def content_of(reply: Message | None) -> Any:
    return reply.content.config_records["wire"]["payload"] if reply is not None else None


def test_each_node_gets_its_own_request_and_its_reply_is_under_its_id() -> None:
    replies = ask(Grid())
    assert list(replies) == list(NODES)
    for node, reply in replies.items():
        assert content_of(reply) == content_of_request(node)


def content_of_request(node: int) -> Any:
    return encode(EnrolRequest(experiment=f"for {node}")).config_records["wire"]["payload"]


def test_messages_carry_type_group_and_the_deadline_as_their_lifetime() -> None:
    grid = Grid()
    ask(grid, deadline=7.0)
    for message, node in zip(grid.pushed, NODES, strict=True):
        meta = message.metadata
        assert (meta.message_type, meta.group_id, meta.dst_node_id, meta.ttl) == (TRAIN, "g", node, 7.0)


def test_an_error_reply_with_a_wrong_sender_is_matched_by_the_message_that_it_answers() -> None:
    class Unavailable(Grid):
        def deliver(self, message: Message) -> Message | None:
            if message.metadata.dst_node_id != 12:
                return super().deliver(message)
            reply = Message(Error(4, "node unavailable"), reply_to=message)
            reply.metadata.__dict__["_src_node_id"] = 1
            assert reply.metadata.src_node_id == 1
            return reply

    replies = ask(Unavailable())
    lost = replies[12]
    assert lost is not None
    assert lost.has_error()
    assert [n for n, r in replies.items() if r is not None and r.has_content()] == [11, 13]


def test_a_node_that_is_gone_has_no_reply_and_nobody_waits_for_it() -> None:
    grid = Grid(gone=(11, 13))
    started = time.monotonic()
    replies = ask(grid, deadline=30.0)
    assert time.monotonic() - started < 5
    assert {n: r is not None for n, r in replies.items()} == {11: False, 12: True, 13: False}
    assert all("" not in ids for ids in grid.pulled)


def test_without_anybody_to_ask_nothing_is_waited_for() -> None:
    grid = Grid()
    assert collect(grid, {}, TRAIN, group="g", deadline_seconds=30.0) == {}
    assert grid.pulled == []


def test_when_all_are_gone_nothing_is_waited_for() -> None:
    started = time.monotonic()
    assert set(ask(Grid(gone=NODES), deadline=30.0).values()) == {None}
    assert time.monotonic() - started < 5


@pytest.mark.parametrize("silent", [(12,), NODES])
def test_the_deadline_is_kept(silent: tuple[int, ...]) -> None:
    started = time.monotonic()
    replies = ask(Grid(silent=silent), deadline=0.3)
    assert 0.3 <= time.monotonic() - started < 0.3 + 1.0
    assert {n for n, r in replies.items() if r is None} == set(silent)


def test_a_late_reply_is_not_waited_for_and_never_looked_at_later() -> None:
    grid = Grid(late={12: 0.6})
    replies = ask(grid, deadline=0.2)
    assert replies[12] is None
    time.sleep(0.5)
    grid.late = {}
    again = ask(grid)
    assert all(r is not None for r in again.values())
    first = {i for ids in grid.pulled[:1] for i in ids}
    assert not first & set(grid.pulled[-1])


def test_a_reply_in_time_is_taken_though_others_are_faster() -> None:
    replies = ask(Grid(late={11: 0.15, 13: 0.05}))
    assert all(r is not None and kind_of(r.content) == "EnrolRequest" for r in replies.values())


def test_a_reply_that_arrives_twice_counts_once() -> None:
    taken, silent = counted(Grid(twice=True), 5.0)
    assert sorted(taken) == list(NODES)
    assert silent == []


def test_only_replies_are_taken_and_the_silent_are_named() -> None:
    taken, silent = counted(Grid(gone=(11,), silent=(12,)), 0.1)
    assert taken == [13]
    assert silent == [11, 12]


@pytest.mark.parametrize(("reply_bytes", "largest"), [(IN_FLIGHT_BYTES, 1), (IN_FLIGHT_BYTES // 2, 2), (1000, 3)])
def test_large_replies_are_pulled_a_few_at_a_time(reply_bytes: int, largest: int) -> None:
    grid = Grid()
    assert sorted(counted(grid, 5.0, reply_bytes)[0]) == list(NODES)
    assert max(map(len, grid.pulled)) == largest


def test_a_large_reply_is_let_go_before_the_next_is_pulled() -> None:
    alive: list[weakref.ref[Message]] = []

    class Watched(Grid):
        def pull_messages(self, message_ids: Iterable[str]) -> list[Message]:
            assert [ref for ref in alive if ref() is not None] == [], "an earlier reply is still held"
            ready = super().pull_messages(message_ids)
            alive.extend(map(weakref.ref, ready))
            return ready

    assert len(counted(Watched(), 5.0, IN_FLIGHT_BYTES)[0]) == len(alive) == 3


def test_the_time_in_which_replies_are_taken_is_not_the_sites() -> None:
    taken: list[int] = []

    def slowly(node: int, _reply: Message) -> None:
        time.sleep(0.3)
        taken.append(node)

    requests = {node: encode(EnrolRequest()) for node in NODES}
    grid = Grid(late={13: 0.8})  # 0.6 s of it pass while others are taken, and the last look is not enough
    assert exchange(grid, [requests], TRAIN, group="g", deadline_seconds=0.4, take=slowly) == []
    assert taken[-1] == 13


def test_a_lot_is_made_when_the_one_before_has_been_sent_and_let_go() -> None:
    grid, sent, made = Grid(), list[int](), list[dict[int, RecordDict]]()

    def lots() -> Iterator[dict[int, RecordDict]]:
        for nodes in ((NODES[0], NODES[2]), (NODES[1],)):
            sent.append(len(grid.pushed))
            assert all(lot == {} for lot in made)
            made.append(dict.fromkeys(nodes, encode(EnrolRequest())))
            yield made[-1]

    taken = list[int]()
    silent = exchange(grid, lots(), TRAIN, group="g", deadline_seconds=5, take=lambda node, _: taken.append(node))
    assert sent == [0, 2]
    assert sorted(taken) == list(NODES)
    assert silent == []
