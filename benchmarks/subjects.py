"""What is measured: networks, synthetic images and experiments of a few sizes, the same in all parts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from socket_core.config import Experiment, parse_experiment
from socket_core.data.types import Images, Pairs, SiteData
from socket_core.models import Network, build_network

CLASSES = 17
BATCH = 32


@dataclass(frozen=True)
class Subject:
    """A network and the images that it sees."""

    backbone: str
    size: int
    bottleneck: int = 256
    batch: int = BATCH

    def __str__(self) -> str:
        return f"{self.backbone} {self.size} px"


TINY = Subject("tiny", 48, bottleneck=64)
RESNET18 = Subject("resnet18", 96)
RESNET50 = Subject("resnet50", 224)


def experiment(subject: Subject, **sections: dict[str, Any]) -> Experiment:
    """The defaults on this subject; ``method={"lr": 1}`` changes keys of a section."""
    raw: dict[str, Any] = {
        "name": "benchmark",
        "device": "cpu",
        "data": {"size": subject.size},
        "network": {"backbone": subject.backbone, "bottleneck_dim": subject.bottleneck},
        "method": {"batch": subject.batch},
    }
    for name, keys in sections.items():
        raw[name] = {**raw.get(name, {}), **keys}
    return parse_experiment(raw, where="benchmark")


def networks(subject: Subject, memory_format: torch.memory_format = torch.channels_last) -> tuple[Network, Network]:
    """Target and source with the same random weights."""
    target, source = (build_network(subject.backbone, subject.bottleneck, CLASSES) for _ in range(2))
    return target.to(memory_format=memory_format), source.to(memory_format=memory_format)


def images(count: int, size: int, *, rgb: bool = False, seed: int = 0) -> Images:
    """Random pixels: 8-bit colour, or 16-bit depth up to 10 m in millimetres."""
    rng = np.random.default_rng(seed)
    if rgb:
        return Images(rng.integers(0, 256, (count, size, size, 3), dtype=np.uint8), 255.0)
    return Images(rng.integers(0, 10_000, (count, size, size), dtype=np.uint16), 10_000.0)


def pairs(count: int, size: int) -> Pairs:
    """Random pairs."""
    return Pairs(images(count, size, rgb=True, seed=1), images(count, size, seed=2))


def site_data(tr: int, ti: int, size: int) -> SiteData:
    """What a site adapts on."""
    return SiteData(images(tr, size), pairs(ti, size))


def inputs(subject: Subject, memory_format: torch.memory_format, *, seed: int = 0) -> Tensor:
    """A batch as a loader would make it, ``(N, 3, S, S)``, from nothing."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(subject.batch, 3, subject.size, subject.size, generator=generator)
    return x.contiguous(memory_format=memory_format)
