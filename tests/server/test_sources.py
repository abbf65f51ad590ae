"""The releases of several owners: trained apart, signed apart, refused where they do not belong."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from server.owner import ensure_release
from server.sources import ensure_sources, source_files
from socket_core.errors import MethodError, ReleaseError
from socket_core.keys import load_private_key, load_public_key
from socket_core.methods import METHODS
from socket_core.release import read_release, write_release
from tests.server.builders import World, experiment_with, quiet, tree
from tests.server.several_builders import LAB, TWO, SeveralBench, two_sources

__all__ = ["two_sources"]


def test_each_source_lies_in_its_folder_under_its_own_key(two_sources: World) -> None:
    files = source_files(two_sources.home, experiment_with(**TWO))
    assert [folder.name for folder in files.folders] == ["release-seed0", "release-lab-seed0"]
    assert (two_sources.home / "keys" / "lab.key.pem").stat().st_mode & 0o077 == 0
    first, second = files.read()
    assert (second.info.backbone, second.info.bottleneck_dim) == ("tiny_wide", 6)
    assert first.info.seed != second.info.seed
    assert files.digest() == f"{first.info.digest}+{second.info.digest}"
    for folder, key in zip(files.folders, reversed(files.keys), strict=True):
        with pytest.raises(ReleaseError, match="signed by another key"):
            read_release(folder, load_public_key(key))


def test_what_is_there_is_used_again(two_sources: World, tmp_path: Path) -> None:
    bench, said = SeveralBench(two_sources, tmp_path), list[str]()
    before = tree(bench.home)
    ensure_sources(bench.experiment, bench.home, bench.cache, confirm_batchnorm=True, say=said.append)
    assert tree(bench.home) == before
    assert [line.split()[0] for line in said] == ["reusing", "reusing"]


def test_one_source_alone_has_the_files_that_it_always_had(world: World) -> None:
    files = source_files(world.home, experiment_with())
    assert files.folders == (world.home / "release-seed0",)
    assert files.keys == (world.home / "keys" / "owner.pub.pem",)


def test_a_further_source_trained_otherwise_is_refused(two_sources: World, tmp_path: Path) -> None:
    bench = SeveralBench(two_sources, tmp_path)
    for change, words in (({"bottleneck_dim": 7}, "network.bottleneck_dim 6"), ({"seed": 5}, "made with seed")):
        other = experiment_with(**{**TWO, "further_sources": [LAB | change]})
        with pytest.raises(ReleaseError, match=f"(?s)release-lab-seed0: .*{words}"):
            ensure_sources(other, bench.home, bench.cache, confirm_batchnorm=True, say=quiet)


@pytest.mark.parametrize(("change", "legal"), [({"seed": 5}, True), ({"backbone": "tiny"}, False)])
def test_another_owners_release_counts_by_its_network_however_it_was_trained(
    two_sources: World, tmp_path: Path, change: dict[str, Any], legal: bool
) -> None:
    bench = SeveralBench(two_sources, tmp_path)
    (bench.home / "keys" / "lab.key.pem").unlink()  # only the public half came with the release
    other = experiment_with(**{**TWO, "further_sources": [LAB | change]})
    if legal:
        ensure_sources(other, bench.home, bench.cache, confirm_batchnorm=True, say=quiet)
    else:
        with pytest.raises(ReleaseError, match="network.backbone tiny_wide, the experiment says tiny"):
            ensure_sources(other, bench.home, bench.cache, confirm_batchnorm=True, say=quiet)


def test_no_further_release_without_its_owners_confirmation(world: World, tmp_path: Path) -> None:
    with pytest.raises(ReleaseError, match="release-lab-seed0.*BatchNorm statistics"):
        ensure_release(experiment_with(**TWO), tmp_path, world.cache, confirm_batchnorm=False, say=quiet, source="lab")
    assert tree(tmp_path) == {}


def test_sources_of_other_classes_are_refused(two_sources: World, tmp_path: Path) -> None:
    bench = SeveralBench(two_sources, tmp_path)
    lab = bench.files.read()[1]
    values = {f.name: getattr(lab.info, f.name) for f in dataclasses.fields(lab.info)}
    for unasked in ("digest", "owner_statement", "classes"):
        del values[unasked]
    key = load_private_key(bench.home / "keys" / "lab.key.pem")
    classes = lab.info.classes[::-1]
    write_release(bench.files.folders[1], lab.network(), key, classes=classes, confirm_batchnorm=True, **values)
    with pytest.raises(ReleaseError, match="classes .*the first source has"):
        bench.files.read()


def test_a_method_for_one_source_is_refused_before_anything_is_trained(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(METHODS["socket"], "several_sources", False)
    with pytest.raises(MethodError, match="socket knows one source, found 2"):
        ensure_sources(experiment_with(**TWO), tmp_path, world.cache, confirm_batchnorm=True, say=quiet)
    assert tree(tmp_path) == {}
