"""Which releases a site believes: those that a key which it pins has signed."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import yaml
from safetensors.numpy import load_file
from typer.testing import CliRunner

from client.alone import adapt_alone
from client.app import app
from client.cli import app as site_app
from client.releases import find_release, holds, keep_pinned, read_pinned
from client.site import open_deployed
from protos.codec import ENROL, TRAIN, decode, encode
from protos.wire_pb2 import REASON_POLICY, EnrolRequest, Refusal
from server.job import request_for
from server.state import init
from socket_core.combined import combine
from socket_core.errors import PolicyError, ReleaseError
from socket_core.keys import create_keypair, load_public_key
from socket_core.release import MANIFEST, SIGNATURE, WEIGHTS, pack_release
from tests.client.builders import Deployment
from tests.server.builders import World, message_to, raw_with
from tests.server.several_builders import TWO, SeveralBench, two_sources

__all__ = ["two_sources"]


@pytest.fixture
def bench(two_sources: World, tmp_path: Path) -> SeveralBench:
    """The owners' home."""
    return SeveralBench(two_sources, tmp_path / "owner")


@pytest.fixture
def deployed(bench: SeveralBench, tmp_path: Path) -> Deployment:
    """A site that pins both keys."""
    first, second = bench.files.keys
    return Deployment(tmp_path / "site", first, further_owner_keys=[str(second)])


def test_a_release_of_either_owner_is_taken_and_found_again(bench: SeveralBench, deployed: Deployment) -> None:
    site = open_deployed(deployed.path)
    for folder, release in zip(bench.files.folders, bench.files.read(), strict=True):
        assert not holds(site, release.info.digest)
        assert keep_pinned(site, pack_release(folder)).name == release.info.digest
        assert find_release(site, release.info.digest).info == release.info
        assert read_pinned(site, folder).info == release.info


def test_a_release_of_nobody_pinned_is_refused_and_not_kept(
    bench: SeveralBench, deployed: Deployment, tmp_path: Path
) -> None:
    _, stranger = create_keypair(tmp_path, "stranger")
    deployed.raw["further_owner_keys"] = [str(stranger)]
    deployed.write()
    site = open_deployed(deployed.path)
    folder = bench.files.folders[1]
    for attempt in (lambda: keep_pinned(site, pack_release(folder)), lambda: read_pinned(site, folder)):
        with pytest.raises(ReleaseError, match="not signed by any of the 2 pinned keys") as caught:
            attempt()
        assert SIGNATURE in caught.value.where
        assert "further_owner_keys" in caught.value.remedy
    assert not site.store.releases.exists()


@pytest.mark.parametrize("name", [MANIFEST, SIGNATURE, WEIGHTS])
def test_a_damaged_release_is_refused_with_several_keys_too(
    bench: SeveralBench, deployed: Deployment, name: str
) -> None:
    site, files = open_deployed(deployed.path), pack_release(bench.files.folders[1])
    with pytest.raises(ReleaseError, match="missing|not there|no such|not found"):
        keep_pinned(site, {k: v for k, v in files.items() if k != name})
    with pytest.raises(ReleaseError):
        keep_pinned(site, files | {name: files[name][:-1] + bytes([files[name][-1] ^ 1])})
    (bench.files.folders[1] / name).unlink()
    with pytest.raises(ReleaseError, match=name):
        read_pinned(site, bench.files.folders[1])
    assert not site.store.releases.exists()


def test_one_key_says_what_it_always_said(bench: SeveralBench, deployed: Deployment) -> None:
    site = dataclasses.replace(open_deployed(deployed.path), further_owner_keys=())
    with pytest.raises(ReleaseError, match="signed by another key"):
        read_pinned(site, bench.files.folders[1])


@pytest.mark.parametrize("kind", [ENROL, TRAIN])
def test_more_sources_than_the_policy_allows_are_refused(
    bench: SeveralBench, deployed: Deployment, tmp_path: Path, kind: str
) -> None:
    deployed.raw["policy"] = {"max_sources": 1}
    deployed.write()
    asked = EnrolRequest(experiment="job", release_digest="d" * 64, further_release_digests=["e" * 64])
    state = init(combine(bench.files.read()), bench.experiment, "job-1")
    content = encode(asked) if kind == ENROL else request_for(bench.job(), dataclasses.replace(state, round=1))
    answer = app(message_to(content, kind), deployed.context(7)).content
    assert decode(answer, Refusal).reason == REASON_POLICY
    with pytest.raises(PolicyError, match="2 sources, at most 1"):
        adapt_alone(deployed.path, bench.experiment, bench.files.folders, tmp_path / "out", lambda _done, _of: None)


def test_a_further_key_may_lie_beside_the_site_file(deployed: Deployment) -> None:
    key = Path(deployed.raw["owner_key"])
    (deployed.folder / "lab.pub.pem").write_bytes(key.read_bytes())
    deployed.raw["further_owner_keys"] = ["lab.pub.pem"]
    deployed.write()
    assert open_deployed(deployed.path).pinned_keys[1:] == (load_public_key(key),)


def test_a_site_adapts_two_releases_alone(bench: SeveralBench, deployed: Deployment, tmp_path: Path) -> None:
    config, out = tmp_path / "e.yaml", tmp_path / "adapted.safetensors"
    config.write_text(yaml.safe_dump(raw_with(**TWO)), encoding="utf-8")
    arguments = ["adapt", str(deployed.path), "--config", str(config), "--out", str(out)]
    for folder in bench.files.folders:
        arguments += ["--release", str(folder)]
    result = CliRunner().invoke(site_app, arguments)
    assert result.exit_code == 0, result.output
    state = load_file(out)
    assert state["mixing"].shape == (2,)
    assert {key.split(".")[1] for key in state if key.startswith("networks.")} == {"0", "1"}
