"""Networks: backbone F, bottleneck B, classifier C (methods.md section 0; SOCKET, ECCV 2022).

``F`` ends in global average pooling, ``B`` is Linear + BatchNorm1d without a non-linearity, ``C`` is a
weight-normalised linear layer that adaptation leaves frozen.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from socket_core.errors import ConfigError


class Network(nn.Module):
    """``classifier(bottleneck(backbone(x)))``.

    Args:
        backbone: Maps ``(N, 3, H, W)`` to ``(N, backbone_dim)``.
        backbone_dim: Width of the backbone's output.
        bottleneck_dim: Width of the bottleneck.
        classes: Number of task-relevant classes K.
    """

    def __init__(self, backbone: nn.Module, backbone_dim: int, bottleneck_dim: int, classes: int):
        super().__init__()
        self.backbone = backbone
        self.bottleneck = _bottleneck(backbone_dim, bottleneck_dim)
        self.classifier = parametrizations.weight_norm(nn.Linear(bottleneck_dim, classes))

    def features(self, x: Tensor) -> Tensor:
        """Bottleneck features ``f = B(F(x))``, shape ``(N, bottleneck_dim)``."""
        out: Tensor = self.bottleneck(self.backbone(x))
        return out

    def forward(self, x: Tensor) -> Tensor:
        """Class logits, shape ``(N, K)``."""
        out: Tensor = self.classifier(self.features(x))
        return out


def _bottleneck(backbone_dim: int, bottleneck_dim: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(backbone_dim, bottleneck_dim), nn.BatchNorm1d(bottleneck_dim))


def _conv(cin: int, cout: int, stride: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(cin, cout, 3, stride, 1, bias=False), nn.BatchNorm2d(cout), nn.ReLU(inplace=True))


def _tiny() -> tuple[nn.Module, int]:
    """The demo's network: four 3x3 stages, 16 to 128 channels, for 48 to 64 px on a CPU."""
    body = nn.Sequential(
        _conv(3, 16, 2),
        _conv(16, 32, 1),
        _conv(32, 64, 2),
        _conv(64, 64, 1),
        _conv(64, 128, 2),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
    )
    return body, 128


def _resnet(name: str) -> tuple[nn.Module, int]:
    net = _torchvision(name)
    width = int(net.fc.in_features)
    net.fc = nn.Identity()
    return net, width


def _vgg(name: str) -> tuple[nn.Module, int]:
    return nn.Sequential(_torchvision(name).features, nn.AdaptiveAvgPool2d(1), nn.Flatten()), 512


def _torchvision(name: str) -> Any:
    # Imported here because it doubles the start-up time of every command and site process (about 6 s for 3 s).
    import torchvision.models

    return getattr(torchvision.models, name)(weights=None)


BACKBONES: dict[str, Callable[[], tuple[nn.Module, int]]] = {
    "tiny": _tiny,
    **{name: partial(_resnet, name) for name in ("resnet18", "resnet34", "resnet50", "resnet101")},
    **{name: partial(_vgg, name) for name in ("vgg11_bn", "vgg13_bn", "vgg16_bn", "vgg19_bn")},
}


def network_shapes(backbone: str, bottleneck_dim: int, classes: int) -> dict[str, Tensor]:
    """The state of :func:`build_network` as tensors on the meta device: keys, types and shapes, no memory.

    The classifier is written out: normalising a weight on the meta device would import PyTorch's reference
    implementations, 4 s in every process that reads a release.
    """
    with torch.device("meta"):
        body, width = _body(backbone)
        bottleneck = _bottleneck(width, bottleneck_dim)
        head = {
            "bias": torch.empty(classes),
            "parametrizations.weight.original0": torch.empty(classes, 1),
            "parametrizations.weight.original1": torch.empty(classes, bottleneck_dim),
        }
    parts = {"backbone": body.state_dict(), "bottleneck": bottleneck.state_dict(), "classifier": head}
    return {f"{part}.{key}": tensor for part, state in parts.items() for key, tensor in state.items()}


def _body(backbone: str) -> tuple[nn.Module, int]:
    if backbone not in BACKBONES:
        raise ConfigError(
            f"unknown backbone {backbone!r}", where="network.backbone", remedy=f"use one of {', '.join(BACKBONES)}"
        )
    return BACKBONES[backbone]()


def build_network(backbone: str, bottleneck_dim: int, classes: int, *, seed: int = 0) -> Network:
    """A freshly initialised network.

    Initial weights depend on ``seed`` alone; the global random state is left as it was.

    Raises:
        ConfigError: If ``backbone`` is unknown.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        body, width = _body(backbone)
        return Network(body, width, bottleneck_dim, classes)
