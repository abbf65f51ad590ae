"""Backbone weights from a file: torchvision's networks come out as torchvision runs them, anything else is refused."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision.models
from safetensors.torch import save_file
from torch import Tensor, nn

from socket_core.batchnorm import bn_layers
from socket_core.errors import ConfigError
from socket_core.models import build_network
from socket_core.pretrained import load_backbone
from socket_core.source import train_source
from tests.core.builders import CLASSES, experiment, labelled, normal_batch, snapshot, tiny_network

State = dict[str, Tensor]


def write(path: Path, state: Any) -> Path:
    """The file that a user downloads, by its ending."""
    if path.suffix == ".safetensors":
        save_file(state, path)
    else:
        torch.save(state, path)  # noqa: TID251 (what torchvision publishes is such a file)
    return path


@pytest.fixture(scope="module")
def resnet() -> nn.Module:
    """Torchvision's network with weights and statistics that are nobody's initial values."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        net: nn.Module = torchvision.models.resnet18(weights=None)
        with torch.no_grad():
            for layer in bn_layers(net).values():
                assert layer.running_mean is not None
                layer.running_mean.normal_(0, 0.1)
    return net.eval()


def test_a_resnet_computes_what_torchvision_computes(resnet: nn.Module, tmp_path: Path) -> None:
    x = normal_batch(3)
    with torch.no_grad():
        body = nn.Sequential(*[child for name, child in resnet.named_children() if name != "fc"], nn.Flatten())
        expected = body(x)
    for ending in (".safetensors", ".pth"):
        network = build_network("resnet18", 8, CLASSES, seed=1).eval()
        before = snapshot(network)
        load_backbone(network, write(tmp_path / f"net{ending}", resnet.state_dict()), name="resnet18")
        with torch.no_grad():
            assert torch.equal(network.backbone(x), expected)
        for key, value in network.state_dict().items():
            if not key.startswith("backbone."):  # torchvision's own head, fc, went nowhere
                assert torch.equal(value, before[key])


def test_files_from_before_batchnorm_counted_its_batches_are_read(resnet: nn.Module, tmp_path: Path) -> None:
    # Regression: the files that torchvision publishes have no such key.
    old = {key: value for key, value in resnet.state_dict().items() if not key.endswith("num_batches_tracked")}
    network = build_network("resnet18", 8, CLASSES, seed=1)
    load_backbone(network, write(tmp_path / "old.pth", old), name="resnet18")
    assert torch.equal(network.state_dict()["backbone.bn1.running_mean"], old["bn1.running_mean"])


def test_a_vgg_keeps_its_features_under_another_name(tmp_path: Path) -> None:
    with torch.device("meta"):
        keys = torchvision.models.vgg11_bn(weights=None).state_dict()
    generator = torch.Generator().manual_seed(0)
    state = {
        key: torch.randn(meta.shape, generator=generator) if meta.is_floating_point() else torch.tensor(3)
        for key, meta in keys.items()
        if key.startswith("features.")
    }
    head = {key: torch.zeros(1) for key in keys if key.startswith("classifier.")}
    assert head
    network = build_network("vgg11_bn", 8, CLASSES)
    load_backbone(network, write(tmp_path / "vgg.safetensors", state | head), name="vgg11_bn")
    loaded = network.backbone.state_dict()
    assert len(loaded) == len(state)
    for key, value in state.items():
        assert torch.equal(loaded[f"0.{key.removeprefix('features.')}"], value)


def test_source_training_starts_from_the_file(tmp_path: Path) -> None:
    given = tiny_network(4).backbone.state_dict()
    path = write(tmp_path / "tiny.pth", given)
    settings = {"source__lr": 1e-30, "source__epochs": 1}  # changes no float32 but those that are 0
    network, _ = train_source(experiment(**settings, network__weights=str(path)), labelled(12), labelled(6, 1), CLASSES)
    plain, _ = train_source(experiment(**settings), labelled(12), labelled(6, 1), CLASSES)
    others = dict(plain.named_parameters())
    for key, value in network.named_parameters():
        expected = given[key.removeprefix("backbone.")] if key.startswith("backbone.") else others[key]
        assert torch.allclose(value, expected, rtol=0, atol=1e-25)
    assert not torch.equal(plain.state_dict()["backbone.0.0.weight"], given["0.0.weight"])


def test_a_path_may_begin_with_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "tiny.pth", tiny_network(4).backbone.state_dict())
    monkeypatch.setenv("HOME", str(tmp_path))
    train_source(experiment(network__weights="~/tiny.pth", source__epochs=1), labelled(12), labelled(6, 1), CLASSES)


def refused(path: Path, match: str) -> None:
    """The file is refused by its name, and the network stays as it is."""
    network = tiny_network()
    before = snapshot(network)
    with pytest.raises(ConfigError, match=match) as caught:
        load_backbone(network, path, name="tiny")
    assert str(path) in caught.value.where
    assert caught.value.remedy
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"0.0.weight": None}, r"key '0.0.weight': tiny has \(16, 3, 3, 3\), the file no such tensor"),
        ({"9.bias": torch.zeros(2)}, r"key '9.bias': tiny has no such tensor, the file \(2,\)"),
        ({"0.0.weight": torch.zeros(24, 3, 3, 3)}, r"has \(16, 3, 3, 3\), the file \(24, 3, 3, 3\)"),
        ({"0.1.num_batches_tracked": torch.zeros(2)}, r"num_batches_tracked': tiny has \(\), the file \(2,\)"),
    ],
)
@pytest.mark.parametrize("ending", [".pth", ".safetensors"])
def test_weights_of_another_network_are_refused_by_key(
    tmp_path: Path, ending: str, change: dict[str, Tensor | None], match: str
) -> None:
    state = tiny_network(4).backbone.state_dict() | change
    refused(write(tmp_path / f"x{ending}", {k: v for k, v in state.items() if v is not None}), match)


@pytest.mark.parametrize("ending", [".pth", ".safetensors"])
def test_a_missing_a_damaged_and_a_foreign_file_are_told_apart(tmp_path: Path, ending: str) -> None:
    refused(tmp_path / f"absent{ending}", "no such file")
    whole = write(tmp_path / f"whole{ending}", tiny_network(4).backbone.state_dict()).read_bytes()
    damaged = tmp_path / f"damaged{ending}"
    noise = [np.random.default_rng(seed).bytes(200) for seed in range(20)]
    for content in (b"", b"\x00", b"hello, world\n", whole[: len(whole) // 2], whole[:40], *noise):
        damaged.write_bytes(content)
        refused(damaged, "cannot be read as a state dict")
    (tmp_path / f"folder{ending}").mkdir()
    refused(tmp_path / f"folder{ending}", "cannot be read as a state dict")


@pytest.mark.parametrize(
    "content", [{"state_dict": {"0.0.weight": torch.zeros(1)}}, [torch.zeros(1)], {"epoch": 3}, {1: torch.zeros(1)}]
)
def test_a_file_with_more_than_tensors_by_name_is_refused(tmp_path: Path, content: Any) -> None:
    refused(write(tmp_path / "x.pth", content), "holds something other than tensors by name")


class Code:
    """Makes a folder when it is unpickled."""

    def __init__(self, folder: Path) -> None:
        self.folder = str(folder)

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, (self.folder,)


def test_code_in_a_file_is_refused_and_does_not_run(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    path = write(tmp_path / "code.pth", tiny_network(4).backbone.state_dict() | {"0.0.weight": Code(trace)})
    refused(path, "cannot be read as a state dict")
    assert not trace.exists()
    torch.load(path, weights_only=False)  # noqa: TID251 (shows that the file would have run its code)
    assert trace.is_dir()
