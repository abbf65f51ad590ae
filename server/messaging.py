"""Requests to many sites and their replies before a deadline, over any Flower Grid.

Replies are matched by the message that they answer: an error reply for a lost node carries no usable sender.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from flwr.app import Message, RecordDict
from flwr.serverapp import Grid

POLL_SECONDS = (0.02, 0.5)
"""First and longest pause between two polls."""


def exchange(
    grid: Grid,
    requests: Mapping[int, RecordDict],
    message_type: str,
    *,
    group: str,
    deadline_seconds: float,
    on_reply: Callable[[int, int], None] | None = None,
) -> dict[int, Message | None]:
    """Sends one request to each node and collects what comes back in time.

    Args:
        grid: Flower's grid.
        requests: Content by node id.
        message_type: Flower message type.
        group: Flower group id, for its logs.
        deadline_seconds: Time for all replies together; late ones are never looked at.
        on_reply: Called with (replies so far, requests).

    Returns:
        The reply of each node, or None where none came in time.
    """
    messages = [
        Message(content, node, message_type, ttl=deadline_seconds, group_id=group) for node, content in requests.items()
    ]
    nodes = list(requests)
    waiting = dict(zip(grid.push_messages(messages), nodes, strict=True))
    replies: dict[int, Message | None] = dict.fromkeys(nodes)
    waiting.pop("", None)  # a node that left between listing and sending has no message id
    end, pause = time.monotonic() + deadline_seconds, POLL_SECONDS[0]
    last = False  # one more look when the time is up: a reply may have come during the pause
    while waiting and not last:
        last = time.monotonic() >= end
        arrived = list(grid.pull_messages(list(waiting)))
        for reply in arrived:
            node = waiting.pop(reply.metadata.reply_to_message_id, None)
            if node is None:
                continue
            replies[node] = reply
            if on_reply is not None:
                on_reply(sum(r is not None for r in replies.values()), len(requests))
        if waiting and not last:
            pause = POLL_SECONDS[0] if arrived else min(2 * pause, POLL_SECONDS[1])
            time.sleep(min(pause, max(0.0, end - time.monotonic())))
    return replies
