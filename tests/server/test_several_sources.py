"""A federation with two sources: each release sent once, the mixing learnt together, resumed only with the same set."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from client.app import app
from protos.codec import RELEASE, TRAIN, decode
from protos.wire_pb2 import RoundRequest
from server import rounds
from server.enrolment import Roll, enrol
from server.job import Job
from server.local_grid import LocalGrid
from server.owner import train_and_release
from socket_core.combined import combine
from socket_core.errors import FederationError
from socket_core.exchange import travelling_specs, unflatten
from socket_core.release import pack_release
from tests.client.builders import Deployment
from tests.server.builders import FIRST_NODE, Kill, RecordingGrid, World, same_state
from tests.server.several_builders import SeveralBench, two_sources
from tests.server.test_enrolment import Grid, as_site

__all__ = ["two_sources"]


@pytest.mark.parametrize("policy", ["local", "source", "pooled"])
def test_two_rounds_with_two_sources(two_sources: World, tmp_path: Path, policy: str) -> None:
    bench = SeveralBench(two_sources, tmp_path, federation__bn_policy=policy, method__trust="always")
    grid = RecordingGrid(app, bench.contexts())
    state = bench.run(grid)
    records = bench.records()
    assert [(r["sites"], r["refused"]) for r in records] == [(["site-00", "site-01", "site-02"], {})] * 2
    assert all(len(r["held_out"]["by_site"]) == 3 for r in records)
    sizes = [sum(map(len, pack_release(folder).values())) for folder in bench.files.folders]
    assert [r["release_bytes"] for r in records] == [3 * sum(sizes), 0]
    kinds = [m.metadata.message_type for m in grid.sent]
    assert kinds.count(RELEASE) == 6
    request = decode(next(m.content for m in grid.sent if m.metadata.message_type == TRAIN), RoundRequest)
    digests = [release.info.digest for release in bench.job().releases]
    assert [request.release_digest, *request.further_release_digests] == digests
    start = combine(bench.job().releases)
    specs = travelling_specs(start, policy)  # type: ignore[arg-type]
    mixing = unflatten(state.parameters, specs)["mixing"].numpy()
    assert mixing.shape == (2,)
    assert np.abs(mixing).min() > 0, "all sites together moved the weights of the sources"


def test_a_release_that_a_site_holds_is_not_sent_again(two_sources: World, tmp_path: Path) -> None:
    bench = SeveralBench(two_sources, tmp_path, federation__rounds=1, federation__sites=2)
    first, second = (release.info.digest for release in bench.job().releases)

    def files_of(folder: Path) -> Any:
        return lambda: pack_release(folder)

    readers = [files_of(folder) for folder in bench.files.folders]
    grid = RecordingGrid(app, {FIRST_NODE: bench.context(0, FIRST_NODE)})
    for releases, expected in (
        ({second: readers[1]}, 1),
        ({first: readers[0], second: readers[1]}, 1),
        ({second: readers[1], first: readers[0]}, 0),
    ):
        grid.sent.clear()
        enrol(grid, Roll(), [FIRST_NODE], experiment="job", releases=releases, deadline_seconds=5)
        assert [m.metadata.message_type for m in grid.sent].count(RELEASE) == expected


def test_who_refuses_a_release_is_not_sent_the_next(tmp_path: Path) -> None:
    def refuse_name(message: Any) -> Any:
        taken = message.metadata.message_type == RELEASE
        return as_site("../x" if taken else "north", has_release=False)(message)

    roll, grid = Roll(), Grid({3: refuse_name})
    files = {"manifest.binpb": b"m", "manifest.sig": b"s", "weights.safetensors": b"w"}
    releases = {"a" * 64: lambda: files, "b" * 64: lambda: files}
    enrol(grid, roll, [3], experiment="job", releases=releases, deadline_seconds=5)
    assert [kind for kind, _ in grid.asked].count(RELEASE) == 1
    assert roll.sites == {}


def test_a_killed_job_resumes_to_the_same_state(two_sources: World, tmp_path: Path) -> None:
    whole = SeveralBench(two_sources, tmp_path / "whole").run()
    bench = SeveralBench(two_sources, tmp_path / "killed")
    with pytest.raises(Kill):
        bench.run(observe=_kill_after_round_one)
    assert same_state(bench.run(resume="yes"), whole)


@pytest.mark.parametrize("how", ["another", "swapped", "fewer"])
def test_a_job_does_not_resume_with_another_set_of_releases(two_sources: World, tmp_path: Path, how: str) -> None:
    bench = SeveralBench(two_sources, tmp_path)
    with pytest.raises(Kill):
        bench.run(observe=_kill_after_round_one)
    job = bench.job(resume="yes")
    if how == "another":
        train_and_release(bench.experiment, two_sources.task(), bench.home, confirm_batchnorm=True, source="lab")
        again = bench.job(resume="yes")
        assert again.releases[1].info.digest != job.releases[1].info.digest
        job = again
    elif how == "swapped":
        [(release, folder)] = job.further
        first = (job.release, job.release_folder)
        job = Job(job.experiment, release, folder, job.home, "yes", (first,))
    else:
        job = Job(job.experiment, job.release, job.release_folder, job.home, "yes")
    with pytest.raises(FederationError, match=r"round-00001.*another release"):
        rounds.run(LocalGrid(app, bench.contexts()), job)


def _kill_after_round_one(step: str, _facts: dict[str, Any]) -> None:
    if step == "round closed":
        raise Kill


# --- deployed sites


def test_a_site_takes_part_if_it_pins_the_keys_of_all_sources(two_sources: World, tmp_path: Path) -> None:
    bench = SeveralBench(two_sources, tmp_path / "owner", federation__sites=3, federation__rounds=1)
    owner, lab = bench.files.keys
    sites = {
        1: Deployment(tmp_path / "a", owner, "both", further_owner_keys=[str(lab)]),
        2: Deployment(tmp_path / "b", lab, "turned", seed=10, further_owner_keys=[str(owner)]),
        3: Deployment(tmp_path / "c", owner, "first-only", seed=20),
        4: Deployment(tmp_path / "d", lab, "second-only", seed=30),
    }
    steps: dict[str, Any] = {}
    bench.run(
        LocalGrid(app, {node: d.context(node) for node, d in sites.items()}),
        observe=lambda step, facts: steps.setdefault(step, facts),
    )
    assert steps["enrolled"] == {"sites": ["both", "turned"], "refused": ["release", "release"]}
    [record] = bench.records()
    assert record["sites"] == ["both", "turned"]
    kept = {n: len(list((d.folder / "home" / "releases").glob("[0-9a-f]*"))) for n, d in sites.items()}
    assert (kept[1], kept[2], kept[4]) == (2, 2, 0)
    assert kept[3] == 1, "the release whose key it pins"
