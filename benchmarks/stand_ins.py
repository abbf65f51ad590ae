"""Sites that answer at once, behind Flower's own grid: what the owner's server needs.

:class:`server.local_grid.LocalGrid` holds all replies of a round, and copies of them: what a server needs cannot be
seen through it. Here Flower's :class:`HttpGrid` works as it does deployed, with its copies when it packs and unpacks.
Its HTTP client and the SuperLink behind that are a stand-in, which makes a reply when it is pulled and keeps no array
that is pushed.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any, cast

from flwr.app import ConfigRecord, Message, RecordDict
from flwr.app.message import remove_content_from_message
from flwr.common.serde import message_from_proto, message_to_proto
from flwr.proto import message_pb2, runtime_pb2
from flwr.proto.node_pb2 import NodeInfo
from flwr.supercore.inflatable.inflatable_object import (
    InflatableObject,
    get_all_nested_objects,
    get_object_tree,
    get_object_type_from_object_content,
    no_object_id_recompute,
)
from flwr.supercore.task_identity import TaskIdentity
from flwr.superlink.grid.http_grid import HttpGrid

from benchmarks.child import Peak
from server.local_grid import SERVER

Answer = Callable[[Message], RecordDict]


class SuperLinkStandIn:
    """What Flower's client calls, in place of a SuperLink.

    Args:
        answer: Content of the reply to a message whose content is its payload, without arrays.
        nodes: Their ids.

    Attributes:
        nodes: Who is there now.
        spent: CPU seconds that the stand-in took: not the server's.
        pushed: Bytes of objects that came.
        pulled: Bytes of objects that went.
    """

    def __init__(self, answer: Answer, nodes: Iterable[int]) -> None:
        self._answer, self.nodes = answer, list(nodes)
        self._asked = dict[str, tuple[Any, list[str]]]()
        self._payloads, self._objects = dict[str, bytes](), dict[str, InflatableObject]()
        self._lock = threading.Lock()  # Flower pushes and pulls objects in threads
        self.spent, self.pushed, self.pulled = 0.0, 0, 0

    def GetNodes(self, _request: Any) -> Any:
        """All nodes."""
        return runtime_pb2.GetNodesResponse(nodes=[NodeInfo(node_id=node) for node in self.nodes])

    def PushMessages(self, request: Any) -> Any:
        """Notes who is asked, and wants all objects."""
        wanted, started = list[str](), time.thread_time()
        for message, tree in zip(request.messages_list, request.message_object_trees, strict=True):
            objects = list(_ids(tree))
            self._asked[message.metadata.message_id] = message, objects
            wanted += objects
        ids = [message.metadata.message_id for message in request.messages_list]
        self._took(started)
        return runtime_pb2.PushAppMessagesResponse(message_ids=ids, objects_to_push=wanted, session_id="session")

    def PushObject(self, request: Any) -> Any:
        """Keeps payloads and lets arrays go, as a SuperLink that is another process."""
        started, content = time.thread_time(), request.object_content
        if get_object_type_from_object_content(content) == "ConfigRecord":
            self._payloads[request.object_id] = content
        self._took(started, pushed=len(content))
        return message_pb2.PushObjectResponse(stored=True)

    def PullMessages(self, request: Any) -> Any:
        """The replies asked for, without their objects."""
        started = time.thread_time()
        replies = [self._reply(*self._asked.pop(i)) for i in list(request.message_ids) if i in self._asked]
        self._took(started)
        return runtime_pb2.PullAppMessagesResponse(
            messages_list=[message for message, _ in replies], message_object_trees=[tree for _, tree in replies]
        )

    def PullObject(self, request: Any) -> Any:
        """An object, in bytes of its own as if it had come over a network."""
        started = time.thread_time()
        content = self._objects[request.object_id].deflate()  # it stays: replies share arrays
        self._took(started, pulled=len(content))
        return message_pb2.PullObjectResponse(object_found=True, object_available=True, object_content=content)

    def ConfirmMessageReceived(self, _request: Any) -> Any:
        """Thanks."""
        return message_pb2.ConfirmMessageReceivedResponse()

    def close(self) -> None:
        """Nothing is open."""

    def _took(self, started: float, *, pushed: int = 0, pulled: int = 0) -> None:
        with self._lock:
            self.spent += time.thread_time() - started
            self.pushed, self.pulled = self.pushed + pushed, self.pulled + pulled

    def _reply(self, asked: Any, objects: list[str]) -> tuple[Any, Any]:
        payload = next(self._payloads[identifier] for identifier in objects if identifier in self._payloads)
        bare = message_from_proto(asked).metadata
        message = Message(RecordDict({"wire": ConfigRecord.inflate(payload)}), bare.dst_node_id, bare.message_type)
        message.metadata.__dict__.update(bare.__dict__)
        reply = Message(self._answer(message), reply_to=message)
        with no_object_id_recompute():  # those of the arrays, which many replies share, are known
            reply.metadata.__dict__["_message_id"] = reply.object_id
            self._objects.update(get_all_nested_objects(reply))
            return message_to_proto(remove_content_from_message(reply)), get_object_tree(reply)


class MeteredGrid(HttpGrid):
    """Flower's grid, which tells its own part of the memory from what is around it.

    Args:
        link: In place of the SuperLink.

    Attributes:
        of_flower: Largest size while Flower sends or receives, in MB above that at :meth:`begin`.
        around: Likewise while it does not.
    """

    def __init__(self, link: SuperLinkStandIn) -> None:
        super().__init__(token="none")
        # The type of a run and the way to connect are Flower's own business; this is where a connected grid keeps both.
        cast(Any, self)._client, cast(Any, self)._run = link, SimpleNamespace(run_id=1)
        TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = 1, SERVER, 1
        self.begin()

    def begin(self) -> None:
        """Counts from here."""
        self._peak, self.of_flower, self.around = Peak(), 0.0, 0.0

    def end(self) -> None:
        """Counts what there was since the last message."""
        self.around = max(self.around, self._peak.above())

    def push_messages(self, messages: Iterable[Message]) -> list[str]:
        """As Flower's."""
        with self._flowers():
            return list(super().push_messages(messages))

    def pull_messages(self, message_ids: Iterable[str]) -> list[Message]:
        """As Flower's."""
        with self._flowers():
            return list(super().pull_messages(message_ids))

    @contextmanager
    def _flowers(self) -> Iterator[None]:
        self.end()
        self._peak.again()
        yield
        self.of_flower = max(self.of_flower, self._peak.above())
        self._peak.again()


def _ids(tree: Any) -> Iterator[str]:
    yield tree.object_id
    for child in tree.children:
        yield from _ids(child)
