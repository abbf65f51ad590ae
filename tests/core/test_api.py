"""The functions for notebooks: the same engine, sound defaults, and errors that say what to do."""

from __future__ import annotations

import ast
import re
import runpy
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import socket_core
from socket_core import Adapted, adapt, evaluate, load_release, raw_size, read_images, read_pairs
from socket_core.data.types import Images, Pairs
from socket_core.errors import ConfigError, DataError, MethodError, PrivacyError, ReleaseError
from socket_core.export.card import read_adapted
from socket_core.keys import create_keypair
from socket_core.release import Release, read_release
from tests.client.builders import write_images
from tests.core.release_builders import PUBLIC, good, network
from tests.server.builders import World, world

__all__ = ["good", "network", "world"]
EXAMPLE = Path(__file__).resolve().parents[2] / "docs" / "examples" / "first_adaptation.py"


@pytest.fixture(scope="module")
def release(good: Path) -> Release:
    return read_release(good, PUBLIC)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("images")
    write_images(made / "tr" / "monday", 8, "depth", seed=1)
    write_images(made / "rgb", 6, "rgb", seed=2)
    write_images(made / "depth", 6, "depth", seed=3)
    return made


@pytest.fixture(scope="module")
def images(folder: Path, release: Release) -> Images:
    return read_images(folder / "tr", release)


@pytest.fixture(scope="module")
def pairs(folder: Path, release: Release) -> Pairs:
    return read_pairs(folder / "rgb", folder / "depth", release)


def test_images_come_at_the_releases_size(images: Images, pairs: Pairs, folder: Path) -> None:
    assert images.pixels.shape == (8, 48, 48)
    assert (pairs.rgb.pixels.shape, pairs.target.pixels.shape) == ((6, 48, 48, 3), (6, 48, 48))
    assert raw_size(folder / "tr") == (48, 48)


def test_sixteen_bits_need_a_scale(tmp_path: Path, release: Release) -> None:
    for name, side in (("a", 30), ("b", 40)):
        Image.fromarray(np.full((side, 20), 900, np.uint16)).save(tmp_path / f"{name}.png")
    with pytest.raises(DataError, match="16-bit"):
        read_images(tmp_path, release)
    found = read_images(str(tmp_path), release, full_scale=1000)
    assert (found.pixels.dtype, found.full_scale) == (np.dtype(np.uint16), 1000.0)
    assert raw_size(tmp_path) is None
    assert raw_size([tmp_path / "a.png"]) == (30, 20)


def test_a_pair_without_its_other_half_is_named(folder: Path, release: Release, tmp_path: Path) -> None:
    write_images(tmp_path / "depth", 7, "depth")
    with pytest.raises(DataError, match="006"):
        read_pairs(folder / "rgb", tmp_path / "depth", release)


def test_the_method_follows_from_the_pairs_and_the_release_stays_as_it_is(
    release: Release, images: Images, pairs: Pairs
) -> None:
    before = {key: value.clone() for key, value in release.state.items()}
    alone, paired = adapt(release, images, steps=1), adapt(release, images, pairs, steps=2)
    assert (alone.experiment.method.name, paired.experiment.method.name) == ("shot", "socket")
    assert (alone.report.steps, paired.report.steps) == (1, 2)
    assert all(bool((release.state[key] == value).all()) for key, value in before.items())
    assert not paired.network.training
    assert paired.classes == ("chair", "table", "lämp")


def test_the_same_seed_gives_the_same_bits(release: Release, images: Images, pairs: Pairs) -> None:
    one, two, other = (adapt(release, images, pairs, steps=2, seed=seed).predict(images) for seed in (3, 3, 4))
    assert one.tobytes() == two.tobytes()
    assert one.tobytes() != other.tobytes()
    assert one.shape == (8, 3)
    np.testing.assert_allclose(one.sum(1), 1, rtol=1e-5)


def test_scores_are_of_these_labels(release: Release, images: Images) -> None:
    found = adapt(release, images, method="adabn")
    labels = found.predict(images).argmax(1)
    assert evaluate(found, images, labels).accuracy == 1.0
    assert evaluate(found, images, (labels + 1) % 3).accuracy == 0.0
    with pytest.raises(DataError, match="8 images but 2 labels"):
        evaluate(found, images, [0, 1])


def test_settings_are_those_of_an_experiment(release: Release, images: Images) -> None:
    found = adapt(release, images, steps=1, settings={"method": {"lr": 0.5}, "federation": {"proximal": 0.1}})
    assert (found.experiment.method.lr, found.experiment.federation.proximal) == (0.5, 0.1)
    with pytest.raises(ConfigError, match=r"method\.learning_rate"):
        adapt(release, images, settings={"method": {"learning_rate": 0.5}})


def test_what_cannot_be_is_refused(release: Release, images: Images, good: Path, tmp_path: Path) -> None:
    with pytest.raises(MethodError, match="pairs"):
        adapt(release, images, method="socket", steps=1)
    with pytest.raises(PrivacyError, match="ledger"):
        adapt(release, images, settings={"privacy": {"epsilon": 3.0}})
    create_keypair(tmp_path, "other")
    with pytest.raises(ReleaseError):
        load_release(good, tmp_path / "other.pub.pem")


def test_what_is_saved_can_be_used(release: Release, images: Images, tmp_path: Path) -> None:
    found = adapt(release, images, method="adabn")
    found.save(tmp_path / "a.safetensors", images, raw=(48, 48))
    again = read_adapted(tmp_path / "a.safetensors")
    assert (again.card.method, again.card.classes) == ("adabn", found.classes)
    assert (again.card.preparation.bits, again.card.preparation.raw) == (8, (48, 48))
    same = Adapted(again.network(), release, found.experiment, found.report)
    np.testing.assert_array_equal(same.predict(images), found.predict(images))


def test_the_example_runs(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    home, notebooks = tmp_path / "runs" / "demo", tmp_path / "docs" / "examples"
    home.mkdir(parents=True)
    notebooks.mkdir(parents=True)
    for name in ("release-seed0", "keys"):
        (home / name).symlink_to(world.home / name)
    monkeypatch.chdir(notebooks)  # as a notebook does
    monkeypatch.setattr(sys, "argv", ["kernel", "-f", "kernel.json"])
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("STEPS", "2")
    names = runpy.run_path(str(EXAMPLE))
    said = capsys.readouterr().out
    assert "adabn: " in said
    assert "socket: " in said
    assert (home / "first.safetensors").is_file()
    read, rendered = names["images"], names["scenes"].target_train.images
    np.testing.assert_array_equal(read.pixels, rendered.pixels)
    assert read.full_scale == rendered.full_scale
    assert len(names["pairs"]) == 96


def test_the_example_is_a_notebook_of_cells_with_ten_lines_in_the_middle() -> None:
    cells = re.split(r"^# %%.*\n", EXAMPLE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    [main] = [cell for cell in cells if cell.startswith("release = ")]
    assert len(main.strip().splitlines()) <= 10
    for cell in cells:
        ast.parse(cell)


def test_importing_the_package_needs_no_pytorch() -> None:
    program = "import sys, socket_core; print('torch' in sys.modules); socket_core.adapt; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "True"]
    with pytest.raises(AttributeError, match="nothing"):
        _ = socket_core.nothing
