"""ONNX, torch.export and safetensors give the product's logits, carry their card, and name no path of this machine."""

from __future__ import annotations

import zipfile
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from socket_core.errors import ConfigError, DataError, ReleaseError
from socket_core.export import formats
from socket_core.export.card import Adapted
from socket_core.export.classifiers import InProduct, open_classifier
from tests.core.export_builders import CLOSE, RAW, adapted, raw_images

ENDINGS = [".safetensors", ".onnx", ".pt2"]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Adapted]:
    """All formats of a network with two sources, written once."""
    folder = tmp_path_factory.mktemp("formats")
    _, found = adapted(folder, sources=2)
    for ending in ENDINGS:
        formats.write(found, RAW, folder / f"model{ending}")
    return folder, found


@pytest.mark.parametrize("ending", ENDINGS)
def test_every_format_gives_the_products_logits_and_the_card(
    made: tuple[Path, Adapted], tmp_path: Path, ending: str
) -> None:
    folder, found = made
    classifier, product = open_classifier(folder / f"model{ending}"), InProduct(found)
    assert classifier.card == found.card
    for path in raw_images(tmp_path):
        logits = classifier.logits(path)
        assert logits.shape == (3,)
        assert logits.dtype == np.float32
        assert np.abs(logits - product.logits(path)).max() < CLOSE


@pytest.mark.parametrize("ending", ENDINGS)
def test_no_file_names_paths_or_holds_pickles(made: tuple[Path, Adapted], ending: str) -> None:
    path = made[0] / f"model{ending}"
    content = [path.read_bytes()]
    if ending == ".pt2":
        with zipfile.ZipFile(path) as archive:
            content = [archive.read(name) for name in archive.namelist()]
    for part in content:
        assert b"export/graph.py" not in part
        assert str(Path(formats.__file__).parent).encode() not in part
        assert not part.startswith(b"\x80\x02")


def test_onnx_says_what_goes_in_and_out(made: tuple[Path, Adapted]) -> None:
    model = onnx.load(made[0] / "model.onnx")
    onnx.checker.check_model(model)
    [image], [logits] = model.graph.input, model.graph.output
    assert (image.name, logits.name) == ("image", "logits")
    assert image.type.tensor_type.elem_type == onnx.TensorProto.UINT16
    assert [d.dim_value for d in image.type.tensor_type.shape.dim] == list(RAW)
    assert [d.dim_value for d in logits.type.tensor_type.shape.dim] == [3]
    assert '"lämp"' in {p.key: p.value for p in model.metadata_props}["socket-fl"]


@pytest.mark.parametrize("ending", [".onnx", ".pt2"])
def test_images_of_another_size_or_depth_are_refused(made: tuple[Path, Adapted], tmp_path: Path, ending: str) -> None:
    classifier = open_classifier(made[0] / f"model{ending}")
    [larger] = raw_images(tmp_path / "large", 1, raw=(44, 30))
    with pytest.raises(DataError, match="for 30 rows of 44 pixels, found 44 of 30"):
        classifier.logits(larger)
    [eight] = raw_images(tmp_path / "eight", 1, bits=8)
    with pytest.raises(DataError, match="expected 16 bits a pixel"):
        classifier.logits(eight)


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_damaged_file_is_refused(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"model{ending}"
    path.write_bytes(b"not a model")
    with pytest.raises(ReleaseError):
        open_classifier(path)


def test_an_archive_with_a_pickle_is_refused_unread(made: tuple[Path, Adapted], tmp_path: Path) -> None:
    def changed(part: str, old: bytes, new: bytes) -> Path:
        path = tmp_path / "model.pt2"
        with zipfile.ZipFile(made[0] / "model.pt2") as source, zipfile.ZipFile(path, "w") as target:
            for name in source.namelist():
                content = source.read(name)
                target.writestr(name, (content.replace(old, new, 1) or new) if name.endswith(part) else content)
        return path

    loaded: list[object] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.export, "load", loaded.append)
        for path in (
            changed("weights_config.json", b'"use_pickle": false', b'"use_pickle": true'),
            changed("sample_inputs/model.pt", b"", b"\x80\x02K\x01."),
        ):
            with pytest.raises(ReleaseError, match="is a pickle"):
                open_classifier(path)
    assert loaded == []


def test_an_unknown_ending_is_refused(made: tuple[Path, Adapted]) -> None:
    with pytest.raises(ConfigError, match=r"unknown format '\.tflite'") as caught:
        formats.writer_for(Path("model.tflite"))
    assert ".onnx" in caught.value.remedy
    with pytest.raises(ConfigError, match="unknown format"):
        open_classifier(Path("model.bin"))


@pytest.mark.parametrize("package", ["onnx", "onnxscript", "onnxruntime"])
def test_a_missing_package_is_named_with_its_remedy(monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    monkeypatch.setattr(formats, "find_spec", lambda name: None if name == package else find_spec(name))
    with pytest.raises(ConfigError, match=f"package {package}, which is not installed") as caught:
        formats.writer_for(Path("model.onnx"))
    assert "socket-fl[export]" in caught.value.remedy
