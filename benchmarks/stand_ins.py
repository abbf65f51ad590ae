"""Sites that answer at once with a change of noise, over a grid that hands replies out as a network does.

:class:`server.local_grid.LocalGrid` holds all replies of a round, and copies of them: what a server needs cannot be
seen through it. Here a reply comes into being when it is pulled, with bytes of its own, and nobody but the server
keeps it. What Flower's SuperLink holds for the server, in a process of its own, is not in it.
"""

from __future__ import annotations

import copy
import itertools
import time
from collections.abc import Callable, Iterable

from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, RecordDict

from server.local_grid import LocalGrid

Answer = Callable[[Message], RecordDict]


class NetworkGrid(LocalGrid):
    """Answers are made when they are pulled, and only as many as are asked for.

    Args:
        answer: Content of the reply to a message.
        nodes: Their ids.

    Attributes:
        spent: CPU seconds that answers took: not the server's.
    """

    def __init__(self, answer: Answer, nodes: Iterable[int]) -> None:
        super().__init__(lambda _message, _context: None, {n: Context(1, n, {}, RecordDict(), {}) for n in nodes})
        self._answer, self._open = answer, dict[str, Message]()
        self._count = itertools.count(1)
        self.spent = 0.0

    def push_messages(self, messages: Iterable[Message]) -> list[str]:
        """Notes who was asked what; arrays are not kept, as nobody's are who has sent them."""
        identifiers = []
        for message in messages:
            identifier, kept = f"message-{next(self._count)}", copy.copy(message)
            kept.metadata.__dict__["_message_id"] = identifier
            kept.content = RecordDict({"wire": message.content.config_records["wire"]})
            self._open[identifier] = kept
            identifiers.append(identifier)
        return identifiers

    def pull_messages(self, message_ids: Iterable[str]) -> list[Message]:
        """The replies asked for."""
        asked = [self._open.pop(i) for i in list(message_ids) if i in self._open]
        started = time.process_time()
        replies = [Message(self._answer(message), reply_to=message) for message in asked]
        self.spent += time.process_time() - started
        return replies


def with_own_bytes(records: RecordDict) -> RecordDict:
    """The same records with bytes of their own, as if they had come over a network."""
    out = RecordDict({"wire": ConfigRecord(dict(records.config_records["wire"]))})
    if "arrays" in records.array_records:
        arrays = records.array_records["arrays"].items()
        out["arrays"] = ArrayRecord({k: Array(a.dtype, a.shape, a.stype, bytes(memoryview(a.data))) for k, a in arrays})
    return out
