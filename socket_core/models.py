"""Networks: backbone F, bottleneck B, classifier C (methods.md section 0; SOCKET, ECCV 2022).

``F`` ends in global average pooling, ``B`` is Linear + BatchNorm1d without a non-linearity, ``C`` is a
weight-normalised linear layer that adaptation leaves frozen.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from socket_core.errors import ConfigError


class Model(nn.Module):
    """What is adapted: one network, or several whose logits are mixed (:class:`socket_core.ensemble.Ensemble`).

    Methods are written over ``members``, so that one source is nothing but the shortest case.
    """

    @property
    def members(self) -> Sequence[Network]:
        """The networks inside; K below is their number."""
        raise NotImplementedError

    @property
    def weights(self) -> Tensor:
        """Share of each member in the logits, ``(K,)``, positive, sum 1."""
        raise NotImplementedError

    def embed(self, x: Tensor) -> Tensor:
        """Outputs of all members' backbones side by side, ``(N, E)``."""
        raise NotImplementedError

    def bottle(self, embedded: Tensor) -> Tensor:
        """Bottleneck features ``(N, D)`` from what :meth:`embed` returned."""
        raise NotImplementedError

    def features(self, x: Tensor) -> Tensor:
        """Bottleneck features of all members side by side, ``(N, D)`` with D the sum of their widths."""
        return self.bottle(self.embed(x))

    def logits(self, features: Tensor) -> Tensor:
        """Class logits ``(N, classes)`` from what :meth:`features` returned."""
        raise NotImplementedError

    def split(self, features: Tensor) -> tuple[Tensor, ...]:
        """The features of each member, ``(N, D_k)``."""
        out: tuple[Tensor, ...] = features.split([member.width for member in self.members], dim=1)
        return out

    def forward(self, x: Tensor) -> Tensor:
        """Class logits, shape ``(N, classes)``."""
        return self.logits(self.features(x))


class Network(Model):
    """``classifier(bottleneck(backbone(x)))``.

    ``narrow`` makes the backbone compute in bfloat16; see :func:`half_precision`.

    Args:
        backbone: Maps ``(N, 3, H, W)`` to ``(N, backbone_dim)``.
        backbone_dim: Width of the backbone's output.
        bottleneck_dim: Width of the bottleneck.
        classes: Number of task-relevant classes.
    """

    def __init__(self, backbone: nn.Module, backbone_dim: int, bottleneck_dim: int, classes: int):
        super().__init__()
        self.width, self.embedding = bottleneck_dim, backbone_dim
        self.backbone = backbone
        self.narrow = False
        self.bottleneck = _bottleneck(backbone_dim, bottleneck_dim)
        self.classifier = parametrizations.weight_norm(nn.Linear(bottleneck_dim, classes))

    @property
    def members(self) -> Sequence[Network]:
        """Itself."""
        return (self,)

    @property
    def weights(self) -> Tensor:
        """``(1,)``: nothing to mix."""
        return torch.ones(1, device=next(self.parameters()).device)

    def embed(self, x: Tensor) -> Tensor:
        """``F(x)``, shape ``(N, backbone_dim)``, float32."""
        if not self.narrow:
            out: Tensor = self.backbone(x)
            return out
        # BatchNorm sums in float32 all the same; what follows the average over places is float32 again.
        with torch.autocast(x.device.type, torch.bfloat16):
            out = self.backbone(x)
        return out.float()

    def bottle(self, embedded: Tensor) -> Tensor:
        """``B(F(x))``, shape ``(N, bottleneck_dim)``."""
        out: Tensor = self.bottleneck(embedded)
        return out

    def logits(self, features: Tensor) -> Tensor:
        """Class logits, shape ``(N, classes)``."""
        out: Tensor = self.classifier(features)
        return out


@contextmanager
def half_precision(model: Model, on: bool) -> Iterator[None]:
    """While ``on``, backbones compute in bfloat16; parameters, gradients and BatchNorm statistics stay float32."""
    before = [member.narrow for member in model.members]
    try:
        for member in model.members:
            member.narrow = on
        yield
    finally:
        for member, narrow in zip(model.members, before, strict=True):
            member.narrow = narrow


def _bottleneck(backbone_dim: int, bottleneck_dim: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(backbone_dim, bottleneck_dim), nn.BatchNorm1d(bottleneck_dim))


def _conv(cin: int, cout: int, stride: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(cin, cout, 3, stride, 1, bias=False), nn.BatchNorm2d(cout), nn.ReLU(inplace=True))


def _tiny(width: int = 16) -> tuple[nn.Module, int]:
    """The demo's network: five 3x3 convolutions, ``width`` to 8 ``width`` channels, for 48 to 64 px on a CPU."""
    body = nn.Sequential(
        _conv(3, width, 2),
        _conv(width, 2 * width, 1),
        _conv(2 * width, 4 * width, 2),
        _conv(4 * width, 4 * width, 1),
        _conv(4 * width, 8 * width, 2),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
    )
    return body, 8 * width


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
    "tiny_wide": partial(_tiny, 24),
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
