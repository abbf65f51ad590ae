"""Small inputs for tests: random images, a tiny network away from its initial state, short experiments."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from socket_core.batchnorm import bn_layers
from socket_core.config import Experiment, parse_experiment
from socket_core.data.types import Images, Labelled, Pairs, SiteData
from socket_core.models import Network, build_network

torch.set_num_threads(1)  # tensors here are so small that threads only wait for each other

SIDE = 16
CLASSES = 3


def _patterns(n: int, seed: int) -> NDArray[np.float64]:
    """Values in 0..1, ``(n, SIDE, SIDE)``: coarse patches that differ between images, which plain noise does not."""
    rng = np.random.default_rng(seed)
    coarse = rng.random((n, 4, 4)) * rng.random((n, 1, 1))
    return 0.9 * np.kron(coarse, np.ones((1, SIDE // 4, SIDE // 4))) + 0.1 * rng.random((n, SIDE, SIDE))


def rgb_images(n: int, seed: int = 0) -> Images:
    """Random colour images."""
    channels = [_patterns(n, 3 * seed + channel) for channel in range(3)]
    return Images((255 * np.stack(channels, axis=3)).astype(np.uint8), 255.0)


def depth_images(n: int, seed: int = 1) -> Images:
    """Random 16-bit depth images."""
    return Images((10_000 * _patterns(n, seed)).astype(np.uint16), 10_000.0)


def twin_pairs(n: int, seed: int = 2) -> Pairs:
    """Pairs whose halves become the same network input: any other draw of one half shows at once."""
    grey = (255 * _patterns(n, seed)).astype(np.uint8)
    return Pairs(Images(np.repeat(grey[..., None], 3, axis=3), 255.0), Images(grey, 255.0))


def site_data(n: int = 12, pairs: int = 8, seed: int = 0) -> SiteData:
    """Depth images and RGB-depth pairs of one site."""
    return SiteData(depth_images(n, seed + 10), Pairs(rgb_images(pairs, seed + 20), depth_images(pairs, seed + 30)))


def labelled(n: int, seed: int = 0) -> Labelled:
    """Colour images with labels that can be learnt: the class sets the brightness."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % CLASSES
    pixels = rng.integers(0, 60, (n, SIDE, SIDE, 3)) + 90 * labels[:, None, None, None]
    return Labelled(Images(pixels.astype(np.uint8), 255.0), labels)


def tiny_network(seed: int = 0, backbone: str = "tiny") -> Network:
    """A network whose BatchNorm layers hold no initial value and that predicts several classes, as after training."""
    network = build_network(backbone, 8, CLASSES, seed=seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for layer in bn_layers(network).values():
            for tensor in (layer.weight, layer.running_var):
                assert tensor is not None
                tensor.copy_(torch.rand(tensor.shape, generator=generator) + 0.5)
            for tensor in (layer.bias, layer.running_mean):
                assert tensor is not None
                tensor.copy_(0.1 * torch.randn(tensor.shape, generator=generator))
            assert layer.num_batches_tracked is not None
            layer.num_batches_tracked.fill_(7)
        x = torch.from_numpy(_patterns(64, 99)).float()[:, None].expand(-1, 3, -1, -1) * 2 - 1
        values = network.bottleneck[0](network.eval().backbone(x))
        last = bn_layers(network)["bottleneck.1"]
        assert last.running_mean is not None
        assert last.running_var is not None
        last.running_mean.copy_(values.mean(0))
        last.running_var.copy_(values.var(0))
        dict(network.named_parameters())["classifier.parametrizations.weight.original0"].mul_(3)
    return network.train()


def experiment(**values: Any) -> Experiment:
    """A short experiment; keys are dotted with two underscores: ``method__lr=0.1``."""
    raw: dict[str, Any] = {
        "device": "cpu",
        "data": {"size": SIDE, "pad": 2},
        "network": {"bottleneck_dim": 8},
        "method": {"batch": 6},
        "source": {"epochs": 3, "batch": 6, "backbone_lr_scale": 1.0, "validation": 0.25},
        "federation": {"sites": 1, "rounds": 1, "steps": 3, "quorum": 1},
    }
    for dotted, value in values.items():
        *sections, last = dotted.split("__")
        node = raw
        for section in sections:
            node = node.setdefault(section, {})
        node[last] = value
    return parse_experiment(raw, where="test")


def snapshot(module: nn.Module) -> dict[str, Tensor]:
    """Copies of all parameters and buffers."""
    return {key: value.detach().clone() for key, value in module.state_dict().items()}


def changed(before: dict[str, Tensor], after: dict[str, Tensor]) -> set[str]:
    """Keys whose tensors differ in any bit of their values."""
    assert before.keys() == after.keys()
    return {key for key in before if not torch.equal(before[key], after[key])}


def statistics(keys: Iterable[str]) -> set[str]:
    """The keys that are BatchNorm buffers."""
    return {key for key in keys if key.rsplit(".", 1)[-1] in ("running_mean", "running_var", "num_batches_tracked")}
