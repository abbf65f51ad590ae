"""A copy of what left is what left; a site that does not ask for one keeps none."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import Array, Message
from safetensors.numpy import load_file

from client import sent
from client.app import app
from client.egress import Gate
from client.journal import Journal
from client.store import SiteStore
from protos.codec import TRAIN, decode, sha256
from protos.wire_pb2 import RoundRequest, Update
from socket_core.errors import DataError, PolicyError
from tests.client.builders import Deployment
from tests.server.builders import FIRST_NODE, Bench, RecordingGrid, World


@dataclass
class Job:
    """A finished federation of a site that keeps what it sends and one that does not."""

    keeps: Deployment
    plain: Deployment
    requests: list[Message]
    grid: RecordingGrid

    @property
    def store(self) -> SiteStore:
        return SiteStore(self.keeps.folder / "home")

    @property
    def name(self) -> str:
        return decode(self.requests[0].content, RoundRequest).experiment

    def journal(self) -> list[dict[str, Any]]:
        return [line for line in Journal(self.store.home / "egress.sqlite").read() if line["kind"] == "Update"]


@pytest.fixture
def job(world: World, tmp_path: Path) -> Job:
    bench = Bench(world, tmp_path, method__name="shot", federation__sites=2, federation__steps=1)
    key = world.home / "keys" / "owner.pub.pem"
    keeps = Deployment(tmp_path / "keeps", key, "keeps", keep_sent=True, policy={"bn_policies": ["local", "pooled"]})
    plain = Deployment(tmp_path / "plain", key, "plain", seed=10)
    grid = RecordingGrid(app, {FIRST_NODE: keeps.context(FIRST_NODE), FIRST_NODE + 1: plain.context(FIRST_NODE + 1)})
    bench.run(grid)
    asked = [m for m in grid.sent if m.metadata.message_type == TRAIN and m.metadata.dst_node_id == FIRST_NODE]
    return Job(keeps, plain, asked, grid)


def test_what_is_kept_is_what_came_and_what_left(job: Job) -> None:
    assert sent.jobs(job.store) == [job.name]
    kept = sent.read(job.store, job.name)
    assert [(r.job, r.round, r.stage) for r in kept] == [(job.name, 1, "adapt"), (job.name, 2, "adapt")]
    updates = {u.round: u for reply in job.grid.received if (u := _update(reply)) is not None and u.site == "keeps"}
    for own, request, line in zip(kept, job.requests, job.journal(), strict=True):
        assert sha256(own.before) == decode(request.content, RoundRequest).parameters_sha256
        # Flower sends an array as NumPy writes it: the journal's hash is of these bytes.
        assert sha256(np.frombuffer(Array(own.delta).data, np.uint8)).hex() == line["arrays"]["delta"]["sha256"]
        assert sha256(own.delta) == updates[own.round].delta_sha256
        assert own.experiment.method.name == "shot"
        assert list(own.releases) == [decode(request.content, RoundRequest).release_digest]
    assert not (job.plain.folder / "home" / "sent").exists()
    assert (job.plain.folder / "home" / "egress.sqlite").exists(), "though it has sent as much"


def _update(reply: Message) -> Update | None:
    kind = reply.content.config_records["wire"]["kind"] if reply.has_content() else ""
    return decode(reply.content, Update) if kind == "Update" else None


def test_a_round_that_is_asked_for_again_is_kept_beside_the_first(job: Job) -> None:
    folder = job.store.sent_folder(job.name)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert sorted(before) == ["round-00001.safetensors", "round-00002.safetensors"]
    # 8 bytes a parameter, and a header.
    parameters = len(sent.read(job.store, job.name)[0].delta)
    assert all(8 * parameters < len(content) < 8 * parameters + 8192 for content in before.values())
    for _ in range(2):
        job.grid.deliver(job.requests[0])
    assert all((folder / name).read_bytes() == content for name, content in before.items())
    kept = sent.read(job.store, job.name)
    assert [r.round for r in kept] == [1, 1, 1, 2]
    assert kept[0].delta.tobytes() == load_file(folder / "round-00001.safetensors")["delta"].tobytes()


def test_what_the_gate_refuses_is_not_kept(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_records: object, _gate: Gate) -> None:
        raise PolicyError("not declared")

    monkeypatch.setattr("client.handlers.seal", refuse)
    job.grid.deliver(job.requests[1])
    assert len(sent.read(job.store, job.name)) == 2


def test_a_file_that_cannot_be_read_is_named(job: Job) -> None:
    path = job.store.sent_folder(job.name) / "round-00002.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DataError, match="round-00002"):
        sent.read(job.store, job.name)
    with pytest.raises(DataError, match="nothing was kept"):
        sent.read(job.store, "another")
    with pytest.raises(ValueError, match="plain word"):
        sent.read(job.store, "../jobs")
