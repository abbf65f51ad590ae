"""Small federations in process: one release for all tests, a fresh home for each, grids that misbehave."""

from __future__ import annotations

import itertools
import json
import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
import yaml
from flwr.app import Context, Error, Message, RecordDict

from client.app import app
from protos.codec import TRAIN, decode, encode, sha256
from protos.wire_pb2 import Update
from server import rounds
from server.aggregation import SiteUpdate, Statistics
from server.job import Job, Resume
from server.local_grid import ClientCall, LocalGrid
from server.owner import ensure_release
from server.state import ServerState
from socket_core.config import Experiment, parse_experiment
from socket_core.data.catalogue import load_task
from socket_core.data.types import TransferTask
from socket_core.keys import load_public_key
from socket_core.packing import as_it_is, norm_of
from socket_core.release import Release, read_release

BASE: dict[str, Any] = {
    "name": "small",
    "device": "cpu",
    "data": {
        "size": 48,
        "scenes": {"source_train": 16, "source_test": 8, "target_train": 36, "target_test": 8, "ti": 21},
    },
    "network": {"bottleneck_dim": 8},
    "source": {"epochs": 1, "batch": 8},
    "method": {"name": "socket", "batch": 4, "lr": 0.05},
    "federation": {
        "sites": 3,
        "rounds": 2,
        "steps": 2,
        "quorum": 2,
        "partition": "iid",
        "enrol_seconds": 20.0,
        "deadline_seconds": 20.0,
    },
}
FIRST_NODE = 100
BAD_NODE = 101
"""Node of site-01, which misbehaves."""


class Kill(BaseException):
    """The death of the server process."""


def quiet(_text: str) -> None:
    """Says nothing."""


def raw_with(**changes: Any) -> dict[str, Any]:
    """The small experiment's keys; ``federation__rounds=3`` changes a key of a section."""
    raw = json.loads(json.dumps(BASE))
    for dotted, value in changes.items():
        *sections, last = dotted.split("__")
        node = raw
        for section in sections:
            node = node.setdefault(section, {})
        node[last] = value
    return cast(dict[str, Any], raw)


def experiment_with(**changes: Any) -> Experiment:
    """The small experiment, validated; see :func:`raw_with`."""
    return parse_experiment(raw_with(**changes), where="tests")


@dataclass(frozen=True)
class World:
    """What is made once: rendered scenes and a home that holds keys and a release, but no site yet."""

    cache: Path
    home: Path

    def task(self) -> TransferTask:
        """All images of the small experiment."""
        return load_task(experiment_with().data, cache=self.cache)


@cache
def make_world(root: Path) -> World:
    torch.set_num_threads(1)
    made = World(root / "cache", root / "home")
    ensure_release(experiment_with(), made.home, made.cache, confirm_batchnorm=True, say=quiet)
    return made


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """Shared by all tests of server and client; nobody writes into it."""
    return make_world(tmp_path_factory.getbasetemp() / "world")


class Bench:
    """One experiment in its own home.

    Args:
        world: Where release and scenes come from.
        folder: An empty folder.
        sites: Simulated sites.
        template: A home to copy instead of the world's, for sites that hold something already.
        **changes: See :func:`experiment_with`.
    """

    def __init__(self, world: World, folder: Path, *, sites: int = 3, template: Path | None = None, **changes: Any):
        self.cache, self.home, self.sites = world.cache, folder / "home", sites
        shutil.copytree(template or world.home, self.home)
        self.experiment = experiment_with(**changes)
        self.config = folder / "experiment.yaml"
        self.config.write_text(yaml.safe_dump(raw_with(**changes)), encoding="utf-8")
        self.release_folder = self.home / "release-seed0"
        self.owner_key = load_public_key(self.home / "keys" / "owner.pub.pem")
        self.release: Release = read_release(self.release_folder, self.owner_key)

    @property
    def job_home(self) -> Path:
        """Where checkpoints and metrics go."""
        return self.home / "job"

    @property
    def run_config(self) -> dict[str, str]:
        """Flower's run configuration."""
        return {"config": str(self.config), "home": str(self.home), "cache": str(self.cache)}

    def context(self, index: int, node: int) -> Context:
        """The Flower context of one simulated site."""
        return Context(
            run_id=1,
            node_id=node,
            node_config={"partition-id": index, "num-partitions": self.sites},
            state=RecordDict(),
            run_config=dict(self.run_config),
        )

    def contexts(self, nodes: Sequence[int] | None = None) -> dict[int, Context]:
        """Contexts of all sites by node id."""
        ids = list(nodes) if nodes is not None else [FIRST_NODE + i for i in range(self.sites)]
        return {node: self.context(index, node) for index, node in enumerate(ids)}

    def job(self, *, resume: Resume = "no") -> Job:
        """The job."""
        return Job(self.experiment, self.release, self.release_folder, self.job_home, resume)

    def run(
        self, grid: LocalGrid | None = None, *, resume: Resume = "no", observe: rounds.Observer | None = None
    ) -> ServerState:
        """Runs the job, on healthy sites if no grid is given."""
        return rounds.run(grid or LocalGrid(app, self.contexts()), self.job(resume=resume), observe)

    def records(self) -> list[dict[str, Any]]:
        """The lines of rounds.jsonl without wall-clock times."""
        lines = (self.job_home / "rounds.jsonl").read_text(encoding="utf-8").splitlines()
        return [{k: v for k, v in json.loads(line).items() if not k.endswith("seconds")} for line in lines]


def short_bench(world: World, folder: Path, **changes: Any) -> Bench:
    """A bench with a few seconds of work."""
    return Bench(world, folder, federation__steps=1, data__scenes__target_train=24, data__scenes__ti=12, **changes)


def same_state(one: ServerState, other: ServerState) -> bool:
    """Whether two states are equal to the bit, but for the random name of the job."""
    pairs = [(one.parameters, other.parameters)]
    if one.bridge is not None and other.bridge is not None:
        pairs.append((one.bridge, other.bridge))
    elif one.bridge is not other.bridge:
        return False
    if one.batchnorm is not None and other.batchnorm is not None:
        pairs += [(one.batchnorm.mean, other.batchnorm.mean), (one.batchnorm.var, other.batchnorm.var)]
    elif one.batchnorm is not other.batchnorm:
        return False
    if one.unrounded is not None and other.unrounded is not None:
        pairs.append((one.unrounded.floats(), other.unrounded.floats()))
    elif one.unrounded is not other.unrounded:
        return False
    return one.round == other.round and all(
        a.dtype == b.dtype == np.float32 and a.tobytes() == b.tobytes() for a, b in pairs
    )


def but_bytes(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Records without what was sent: after a crash sites may hold parameters already."""
    return [{k: v for k, v in r.items() if k not in ("bytes_down", "evaluation_bytes")} for r in records]


Change = Callable[[Message, Message | None], Message | None]
"""From a request and the honest reply to what the server is shown."""


class ChangingGrid(LocalGrid):
    """Nodes answer honestly, then some of the replies are changed on the way.

    Args:
        contexts: Contexts by node id.
        change: What to do, by node id.
        types: Flower message types whose replies are changed.
        client: The ClientApp.
    """

    def __init__(
        self,
        contexts: dict[int, Context],
        change: dict[int, Change],
        *,
        types: Sequence[str] = (TRAIN,),
        client: ClientCall = app,
    ) -> None:
        super().__init__(client, contexts)
        self.change, self.types = change, tuple(types)

    def deliver(self, message: Message) -> Message | None:
        """The honest answer, changed."""
        reply = super().deliver(message)
        change = self.change.get(message.metadata.dst_node_id)
        return change(message, reply) if change is not None and message.metadata.message_type in self.types else reply


def lost(message: Message, _reply: Message | None) -> Message | None:
    """What Flower reports for a node whose process is gone."""
    return Message(Error(3, "node unavailable"), reply_to=message)


def silent(_message: Message, _reply: Message | None) -> Message | None:
    """No answer at all."""
    return None


def stop_at(index: int) -> rounds.Observer:
    """An observer that kills the run when its ``index``-th step has ended."""
    numbers = itertools.count()

    def observe(_step: str, _facts: dict[str, Any]) -> None:
        if next(numbers) == index:
            raise Kill

    return observe


Edit = Callable[[Update, dict[str, Any]], RecordDict | None]
"""Changes an update and its arrays in place, or gives records to send instead."""


def edited(edit: Edit) -> Change:
    """An honest update, changed by ``edit``; its checksum fits again unless records come back."""

    def change(_message: Message, reply: Message | None) -> Message | None:
        assert reply is not None
        update = decode(reply.content, Update)
        arrays: dict[str, Any] = {k: a.numpy().copy() for k, a in reply.content.array_records["arrays"].items()}
        records = edit(update, arrays)
        if records is None:
            update.delta_sha256 = sha256(arrays["delta"])
            records = encode(update, arrays)
        return Message(records, reply_to=_message)

    return change


class RecordingGrid(LocalGrid):
    """Keeps all requests and replies."""

    def __init__(self, client: ClientCall, contexts: dict[int, Context]) -> None:
        super().__init__(client, contexts)
        self.sent: list[Message] = []
        self.received: list[Message] = []

    def deliver(self, message: Message) -> Message | None:
        """Answers and writes down both."""
        self.sent.append(message)
        reply = super().deliver(message)
        if reply is not None:
            self.received.append(reply)
        return reply


class ChangingNodes(RecordingGrid):
    """Nodes come and go with the rounds; a message to one that is gone gets no id, as in Flower."""

    def __init__(self, contexts: dict[int, Context], nodes: Callable[[int], list[int]]) -> None:
        super().__init__(app, contexts)
        self.round, self.nodes = 1, nodes

    def get_node_ids(self) -> list[int]:
        """Those of the round."""
        return self.nodes(self.round)

    def push_messages(self, messages: Iterable[Message]) -> list[str]:
        """Sends what can be sent."""
        out: list[str] = []
        for message in messages:
            out += super().push_messages([message]) if message.metadata.dst_node_id in self.get_node_ids() else [""]
        return out

    def observe(self, step: str, facts: dict[str, Any]) -> None:
        """Counts rounds."""
        if step == "round closed":
            self.round = facts["round"] + 1


def message_to(content: RecordDict, message_type: str, node: int = FIRST_NODE) -> Message:
    """A request as a site receives it."""
    LocalGrid(app, {})  # gives this process an identity, without which Flower makes no message
    return Message(content, node, message_type)


def reply_with(content: RecordDict) -> Message:
    """A reply as the server receives it."""
    return Message(content, reply_to=message_to(RecordDict(), TRAIN))


def error_reply(text: str = "client app error", code: int = 0) -> Message:
    """Flower's report of a failed node."""
    return Message(Error(code, text), reply_to=message_to(RecordDict(), TRAIN))


def site_update(site: str, examples: int, delta: Any, statistics: Statistics | None = None) -> SiteUpdate:
    """A screened update with its values in memory."""
    change = as_it_is(np.asarray(delta, dtype=np.float32))
    return SiteUpdate(site, examples, change, norm_of(change), statistics)


def tree(folder: Path) -> dict[str, bytes]:
    """All files below a folder with their contents."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}
