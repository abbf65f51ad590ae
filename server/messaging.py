"""Requests to many sites and their replies before a deadline, over any Flower Grid.

Replies are matched by the message that they answer: an error reply for a lost node carries no usable sender. Each is
handed on as it arrives and let go, so that large ones are never in memory together.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

from flwr.app import Message, RecordDict
from flwr.serverapp import Grid

POLL_SECONDS = (0.02, 0.5)
"""First and longest pause between two polls."""

IN_FLIGHT_BYTES = 1 << 24
"""Of replies that one pull may bring: a pull hands over whatever is there, and it is all in memory then."""


def exchange(
    grid: Grid,
    lots: Iterable[dict[int, RecordDict]],
    message_type: str,
    *,
    group: str,
    deadline_seconds: float,
    take: Callable[[int, Message], None],
    reply_bytes: int = 0,
) -> list[int]:
    """Sends one request to each node and hands on what comes back in time, in whatever order it comes.

    The deadline is for the sites: the time in which replies that have arrived are fetched and taken does not count.

    Args:
        grid: Flower's grid.
        lots: Contents by node id, in lots of which each is sent and emptied before the next is asked for: of contents
            that are made as they are asked for no more than one lot's are in memory, and none while replies come.
        message_type: Flower message type.
        group: Flower group id, for its logs.
        deadline_seconds: Time for all replies together; late ones are never looked at.
        take: Called with a node and its reply, once for each node that replies in time; must keep nothing of it that
            is large.
        reply_bytes: About what a reply weighs, which decides how many are pulled at once.

    Returns:
        Nodes that did not reply in time, in the order of ``lots``.
    """
    waiting, silent = dict[str, int](), dict[int, None]()
    for requests in lots:
        messages = [
            Message(content, node, message_type, ttl=deadline_seconds, group_id=group)
            for node, content in requests.items()
        ]
        waiting.update(zip(grid.push_messages(messages), requests, strict=True))
        silent.update(dict.fromkeys(requests))
        messages.clear()
        requests.clear()
    waiting.pop("", None)  # a node that left between listing and sending has no message id
    at_once = max(1, IN_FLIGHT_BYTES // max(1, reply_bytes))
    end, pause = time.monotonic() + deadline_seconds, POLL_SECONDS[0]
    last = False  # one more look when the time is up: a reply may have come during the pause
    while waiting and not last:
        last, came = time.monotonic() >= end, False
        for some in _parts(list(waiting), at_once):
            started = time.monotonic()
            arrived = list(grid.pull_messages(some))
            if not arrived:
                continue
            came = True
            while arrived:
                node = waiting.pop(arrived[-1].metadata.reply_to_message_id, None)
                reply = arrived.pop()
                if node is not None:
                    del silent[node]
                    take(node, reply)
                del reply  # before the next one is pulled
            end += time.monotonic() - started
        if waiting and not last:
            pause = POLL_SECONDS[0] if came else min(2 * pause, POLL_SECONDS[1])
            time.sleep(min(pause, max(0.0, end - time.monotonic())))
    return list(silent)


def collect(
    grid: Grid, requests: dict[int, RecordDict], message_type: str, *, group: str, deadline_seconds: float
) -> dict[int, Message | None]:
    """As :func:`exchange`, for replies that are small: all of them by node, None where none came in time.

    ``requests`` is emptied.
    """
    replies: dict[int, Message | None] = dict.fromkeys(requests)
    exchange(grid, [requests], message_type, group=group, deadline_seconds=deadline_seconds, take=replies.__setitem__)
    return replies


def _parts(identifiers: list[str], size: int) -> list[list[str]]:
    return [identifiers[start : start + size] for start in range(0, len(identifiers), size)]
