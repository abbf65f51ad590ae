"""What the owner does before a federation: keys and the release."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from server.owner import ensure_keys, ensure_release, release_folder, train_and_release
from socket_core.errors import ReleaseError
from socket_core.keys import load_private_key, load_public_key
from socket_core.release import read_release
from tests.server.builders import Bench, World, experiment_with, quiet, tree


def test_keys_are_made_once(tmp_path: Path) -> None:
    private, public = ensure_keys(tmp_path)
    before = tree(tmp_path)
    assert ensure_keys(tmp_path) == (private, public)
    assert tree(tmp_path) == before
    assert private.stat().st_mode & 0o077 == 0
    assert load_private_key(private).public_key().public_bytes_raw() == load_public_key(public).public_bytes_raw()


@pytest.mark.parametrize("lost", [0, 1])
def test_half_a_key_pair_is_never_overwritten(tmp_path: Path, lost: int) -> None:
    ensure_keys(tmp_path)[lost].unlink()
    before = tree(tmp_path)
    ensure_keys(tmp_path)
    assert tree(tmp_path) == before


def test_a_release_is_trained_signed_and_used_again(world: World, tmp_path: Path) -> None:
    said: list[str] = []
    experiment = experiment_with()
    folder = ensure_release(experiment, tmp_path, world.cache, confirm_batchnorm=True, say=said.append)
    assert folder == release_folder(tmp_path, experiment)
    assert [line.split()[0] for line in said] == ["training", "source"]
    before = tree(tmp_path)
    assert ensure_release(experiment, tmp_path, world.cache, confirm_batchnorm=True, say=said.append) == folder
    assert tree(tmp_path) == before
    assert said[-1].startswith("reusing the source model")
    info = read_release(folder, load_public_key(tmp_path / "keys" / "owner.pub.pem")).info
    assert (info.backbone, info.bottleneck_dim, info.image_size, info.epochs, info.seed) == ("tiny", 8, 48, 1, 0)
    assert list(info.classes) == list(world.task().classes)


def test_the_same_seed_trains_the_same_weights(world: World, tmp_path: Path) -> None:
    ensure_release(experiment_with(), tmp_path, world.cache, confirm_batchnorm=True, say=quiet)
    ours, theirs = (tree(home / "release-seed0")["weights.safetensors"] for home in (tmp_path, world.home))
    assert ours == theirs


def test_another_seed_has_another_release(world: World, tmp_path: Path) -> None:
    bench = Bench(world, tmp_path)
    before = tree(bench.release_folder)
    folder = ensure_release(experiment_with(seed=1), bench.home, world.cache, confirm_batchnorm=True, say=quiet)
    assert folder != bench.release_folder
    assert tree(bench.release_folder) == before


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("network__backbone", "resnet18"),
        ("network__bottleneck_dim", 16),
        ("data__size", 64),
        ("data__mean", 0.25),
        ("data__std", 0.25),
        ("source__epochs", 2),
    ],
)
def test_a_release_made_from_another_configuration_is_refused_and_the_key_named(
    world: World, tmp_path: Path, key: str, value: Any
) -> None:
    bench = Bench(world, tmp_path)
    with pytest.raises(ReleaseError, match=rf"(?s)release-seed0: made with {key.replace('__', '.')} .*\nWhat to do: "):
        ensure_release(experiment_with(**{key: value}), bench.home, world.cache, confirm_batchnorm=True, say=quiet)


@pytest.mark.parametrize("key", ["method__lr", "federation__rounds", "method__batch"])
def test_what_does_not_concern_the_source_does_not_matter(world: World, tmp_path: Path, key: str) -> None:
    bench = Bench(world, tmp_path)
    ensure_release(experiment_with(**{key: 4}), bench.home, world.cache, confirm_batchnorm=True, say=quiet)


def test_a_release_signed_by_someone_else_is_refused(world: World, tmp_path: Path) -> None:
    bench = Bench(world, tmp_path)
    for path in (bench.home / "keys").iterdir():
        path.unlink()
    ensure_keys(bench.home)
    with pytest.raises(ReleaseError):
        ensure_release(experiment_with(), bench.home, world.cache, confirm_batchnorm=True, say=quiet)


def test_without_the_owners_confirmation_nothing_is_published(world: World, tmp_path: Path) -> None:
    with pytest.raises(ReleaseError, match="BatchNorm statistics"):
        train_and_release(experiment_with(), world.task(), tmp_path, confirm_batchnorm=False)
    with pytest.raises(ReleaseError, match="BatchNorm statistics"):
        ensure_release(experiment_with(), tmp_path, world.cache, confirm_batchnorm=False, say=quiet)
    assert not release_folder(tmp_path, experiment_with()).exists()
