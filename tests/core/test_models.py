"""Every backbone builds, and initial weights depend on the seed alone."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from socket_core.batchnorm import bn_layers
from socket_core.errors import ConfigError
from socket_core.models import BACKBONES, build_network, network_shapes
from tests.core.builders import changed, snapshot


@pytest.mark.parametrize("backbone", BACKBONES)
def test_every_backbone_gives_logits_and_features(backbone: str) -> None:
    with torch.device("meta"), torch.no_grad():  # shapes only: the large ones would take seconds and gigabytes
        network = build_network(backbone, 8, 5)
        x = torch.zeros(2, 3, 64, 64)
        assert network(x).shape == (2, 5)
        assert network.features(x).shape == (2, 8)
    assert any(isinstance(m, nn.BatchNorm2d) for m in bn_layers(network).values())


@pytest.mark.parametrize("backbone", ["tiny", "resnet18"])
def test_small_backbones_compute(backbone: str) -> None:
    network = build_network(backbone, 8, 5).eval()
    x = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        logits = network(x)
        assert torch.equal(logits, network.classifier(network.bottleneck(network.backbone(x))))
    assert logits.shape == (2, 5)
    assert torch.isfinite(logits).all()
    assert not torch.equal(logits[0], logits[1])


def test_bottleneck_and_classifier_are_those_of_the_paper() -> None:
    network = build_network("tiny", 8, 5)
    assert [type(m) for m in network.bottleneck] == [nn.Linear, nn.BatchNorm1d]
    magnitude, direction = (p for name, p in network.classifier.named_parameters() if "original" in name)
    expected = magnitude * direction / direction.norm(dim=1, keepdim=True)
    assert torch.allclose(network.classifier.weight, expected)


def test_unknown_backbone_lists_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="resnet17") as caught:
        build_network("resnet17", 8, 5)
    assert caught.value.where == "network.backbone"
    assert all(name in caught.value.remedy for name in BACKBONES)


def test_weights_depend_on_the_seed_alone() -> None:
    torch.manual_seed(1)
    first = snapshot(build_network("tiny", 8, 5, seed=3))
    torch.manual_seed(2)
    assert changed(first, snapshot(build_network("tiny", 8, 5, seed=3))) == set()
    assert "backbone.0.0.weight" in changed(first, snapshot(build_network("tiny", 8, 5, seed=4)))


def test_the_global_random_state_is_left_alone() -> None:
    before = torch.random.get_rng_state()
    build_network("tiny", 8, 5, seed=3)
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.parametrize("backbone", [*BACKBONES])
def test_shapes_without_memory_are_those_of_the_network(backbone: str) -> None:
    with torch.device("meta"):
        expected = build_network(backbone, 12, 5).state_dict()
    found = network_shapes(backbone, 12, 5)
    assert {k: (t.dtype, t.shape) for k, t in found.items()} == {k: (t.dtype, t.shape) for k, t in expected.items()}
    assert all(t.is_meta for t in found.values())
