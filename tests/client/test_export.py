"""``socket-site export`` and ``predict``, from what ``socket-site adapt`` writes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from typer.testing import CliRunner

from client import export as exporting
from client.alone import adapt_alone
from client.cli import app
from client.export import TOLERANCE, export
from client.predict import predict
from client.site import open_deployed
from socket_core.data.loader import Loader
from socket_core.errors import ConfigError, DataError, MethodError, ReleaseError
from socket_core.evaluation import predict_logits
from socket_core.export.card import Preparation, read_adapted
from tests.client.builders import Deployment
from tests.core import export_builders
from tests.core.builders import CPU
from tests.core.disk_builders import grey
from tests.server.builders import World, experiment_with, raw_with

SHORT = {"method__name": "shot", "federation__rounds": 1, "federation__steps": 1}


@pytest.fixture(scope="module")
def site(world: World, tmp_path_factory: pytest.TempPathFactory) -> Deployment:
    """A site, what it adapted beside its site.yaml, and the experiment."""
    deployed = Deployment(tmp_path_factory.mktemp("export") / "site", world.home / "keys" / "owner.pub.pem")
    (deployed.folder / "experiment.yaml").write_text(yaml.safe_dump(raw_with(**SHORT)), encoding="utf-8")
    out, release = deployed.folder / "adapted.safetensors", world.home / "release-seed0"
    adapt_alone(deployed.path, experiment_with(**SHORT), [release], out, lambda _done, _of: None)
    return deployed


def test_adapt_writes_all_that_export_needs(site: Deployment, world: World) -> None:
    found = read_adapted(site.folder / "adapted.safetensors")
    assert found.card.preparation == Preparation(
        modality="depth", bits=8, rotated=False, raw=(48, 48), size=48, full_scale=255.0,
        mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5),
    )  # fmt: skip
    assert (found.card.site, found.card.method) == ("north-roof", "shot")
    assert found.card.classes == world.task().classes
    assert any("running_mean" in key for key in found.state)


def test_the_file_alone_predicts_as_the_loader_does(site: Deployment) -> None:
    path = site.folder / "adapted.safetensors"
    found = read_adapted(path)
    images = open_deployed(site.path).load(experiment_with(**SHORT)).data.tr
    logits = predict_logits(found.network(), Loader(images, found.card.preparation.preprocessing, CPU))
    shares = logits.softmax(1)
    rows = predict(path, [site.folder / "tr"])
    assert [row["file"] for row in rows] == [str(p) for p in sorted((site.folder / "tr").rglob("*.png"))]
    for row, expected in zip(rows, shares, strict=True):
        best = [found.card.classes[int(i)] for i in expected.argsort(descending=True)[:3]]
        assert [entry["class"] for entry in row["top"]] == best
        assert row["top"][0]["probability"] == pytest.approx(float(expected.max()), abs=1e-4)


def test_the_commands_export_and_predict(site: Deployment, world: World, tmp_path: Path) -> None:
    out, config = tmp_path / "model.pt2", site.folder / "experiment.yaml"
    words = ["export", str(site.folder / "adapted.safetensors"), "--release", str(world.home / "release-seed0")]
    words += ["--config", str(config), "--image", str(site.folder / "tr"), "--out", str(out), "--json"]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    facts = json.loads(result.stdout)
    assert facts["largest_difference"] <= facts["tolerance"] == TOLERANCE
    assert (facts["input"], facts["compared_on"]) == ("48 x 48 uint8", "8 images")
    image = str(next((site.folder / "tr").rglob("000.png")))
    result = CliRunner().invoke(app, ["predict", str(out), image])
    assert result.exit_code == 0, result.output
    [line] = result.stdout.splitlines()
    assert line.startswith("000.png  ")
    assert line.count("%") == 3
    result = CliRunner().invoke(app, ["predict", str(out), image, "--json"])
    [row] = json.loads(result.stdout)
    [same] = predict(site.folder / "adapted.safetensors", [Path(image)])
    assert [entry["class"] for entry in row["top"]] == [entry["class"] for entry in same["top"]]


@pytest.mark.parametrize("changes", [{}, {"modality": "nir", "bits": 8, "full_scale": 255.0}, {"rotated": True}])
def test_without_images_answers_are_compared_on_made_up_ones(tmp_path: Path, changes: dict[str, object]) -> None:
    path, _ = export_builders.adapted(tmp_path, sources=2, **changes)
    facts = export(path, tmp_path / "out.safetensors")
    assert facts["compared_on"] == "8 made-up images"
    assert 0 <= facts["largest_difference"] <= TOLERANCE


def test_an_export_that_answers_otherwise_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, _ = export_builders.adapted(tmp_path)

    class Off:
        def logits(self, _image: Path) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
            return np.full(3, np.nan, np.float32)

    monkeypatch.setattr(exporting, "open_classifier", lambda _path: Off())
    with pytest.raises(MethodError, match="differ from this product's by up to nan"):
        export(path, tmp_path / "out.safetensors")
    assert not (tmp_path / "out.safetensors").exists()


def test_what_does_not_belong_together_is_refused(site: Deployment, world: World, tmp_path: Path) -> None:
    path, out = export_builders.adapted(tmp_path)[0], tmp_path / "out.safetensors"
    with pytest.raises(ReleaseError, match="adapted from 0000000000000000, given"):
        export(path, out, releases=[world.home / "release-seed0"])
    with pytest.raises(ReleaseError, match="adapted from 0000000000000000, given"):
        predict(path, [tmp_path], [world.home / "release-seed0"])
    with pytest.raises(ConfigError, match="adapted with 16, the experiment says 48"):
        export(path, out, config=site.folder / "experiment.yaml")
    with pytest.raises(ConfigError, match="unknown format"):
        export(path, tmp_path / "out.h5")
    assert not out.exists()


def test_images_of_several_sizes_are_refused(tmp_path: Path) -> None:
    path, _ = export_builders.adapted(tmp_path, raw=None)
    with pytest.raises(DataError, match="differ in size") as caught:
        export(path, tmp_path / "out.safetensors")
    assert "--image" in caught.value.remedy
    images = [
        *export_builders.raw_images(tmp_path / "a", 1),
        *export_builders.raw_images(tmp_path / "b", 1, raw=(20, 20)),
    ]
    with pytest.raises(DataError, match="expected images of one size, found 20x20, 44x30"):
        export(path, tmp_path / "out.safetensors", images=images)
    with pytest.raises(DataError, match="no such file"):
        predict(path, [tmp_path / "absent.png"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no image found"):
        predict(path, [tmp_path / "empty"])


def test_a_site_with_images_of_several_sizes_says_so(site: Deployment, tmp_path: Path, world: World) -> None:
    mixed = Deployment(tmp_path / "site", world.home / "keys" / "owner.pub.pem")
    grey(mixed.folder / "tr" / "odd.png", np.zeros((20, 30), np.uint8))
    out = tmp_path / "adapted.safetensors"
    adapt_alone(mixed.path, experiment_with(**SHORT), [world.home / "release-seed0"], out, lambda _done, _of: None)
    assert read_adapted(out).card.preparation.raw is None
