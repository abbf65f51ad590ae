"""A Flower Grid in this process: the real ServerApp and ClientApp without Ray or network.

Messages are copied on the way, so that neither side can share memory with the other. A node works when its answer is
asked for, so that answers do not pile up. Nodes may be silenced, delayed or made to fail: this is what most federation
tests and in-process comparisons run on.
"""

from __future__ import annotations

import copy
import itertools
import time
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING

from flwr.app import Context, Error, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid
from flwr.supercore.task_identity import TaskIdentity

if TYPE_CHECKING:
    from flwr.supercore.run import Run

ClientCall = Callable[[Message, Context], Message | None]
SERVER = 1


class LocalGrid(Grid):
    """Runs nodes one after another in this process.

    Args:
        app: The ClientApp, or any callable in its place; None as its result is a node that never answers.
        contexts: Context of each node, by node id.
    """

    def __init__(self, app: ClientApp | ClientCall, contexts: Mapping[int, Context]) -> None:
        self._app: ClientCall = app
        self.contexts = dict(contexts)
        self._numbers = itertools.count(1)
        self._waiting: dict[str, tuple[float, Message]] = {}
        self._worked = 0.0
        # Messages take the identity of the process that makes them; Flower sets it, and here there is no Flower.
        TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = 1, SERVER, 1

    def set_run(self, run: Run) -> None:
        """Not needed: there is one run."""

    @property
    def run(self) -> Run:
        """Not available in process."""
        raise RuntimeError("a LocalGrid has no run record")

    def create_message(
        self, content: RecordDict, message_type: str, dst_node_id: int, group_id: str, ttl: float | None = None
    ) -> Message:
        """Flower's older way to make a message; not used."""
        raise RuntimeError("construct a Message instead")

    def get_node_ids(self) -> list[int]:
        """All nodes."""
        return list(self.contexts)

    def push_messages(self, messages: Iterable[Message]) -> list[str]:
        """Puts the messages where their nodes find them."""
        identifiers = []
        for unsent in messages:
            identifier = f"message-{next(self._numbers)}"
            message = _numbered(unsent, identifier)
            identifiers.append(identifier)
            self._waiting[identifier] = (self._now() + self.delay(message), message)
        return identifiers

    def deliver(self, message: Message) -> Message | None:
        """One node's answer; an exception becomes Flower's error reply, as in a SuperNode."""
        received = copy.deepcopy(message)
        try:
            reply = self._app(received, self.contexts[message.metadata.dst_node_id])
        except Exception:
            return Message(Error(0, "client app error"), reply_to=message)
        if reply is None or not reply.has_content():
            return reply
        return Message(copy.deepcopy(reply.content), reply_to=message)

    def delay(self, message: Message) -> float:
        """Seconds until the answer can be pulled; tests override it."""
        return 0.0

    def pull_messages(self, message_ids: Iterable[str]) -> list[Message]:
        """Lets nodes answer in the order asked for; hands over last first: callers must not rely on an order."""
        now, started = self._now(), time.monotonic()
        arrived = []
        for identifier in message_ids:
            if identifier in self._waiting and self._waiting[identifier][0] <= now:
                reply = self.deliver(self._waiting.pop(identifier)[1])
                arrived += [reply] if reply is not None else []
        self._worked += time.monotonic() - started
        return arrived[::-1]

    def _now(self) -> float:
        """A clock that stands while nodes work: they do so one after another here, and side by side elsewhere."""
        return time.monotonic() - self._worked

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> list[Message]:
        """Not used: :func:`server.messaging.exchange` pushes and pulls."""
        raise RuntimeError("use server.messaging.exchange")


def _numbered(message: Message, identifier: str) -> Message:
    """The message as it is after sending, when it has a number that replies can name."""
    out = copy.copy(message)
    out.metadata.__dict__["_message_id"] = identifier
    return out
