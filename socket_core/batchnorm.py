"""Everything about BatchNorm: explicit modes, recorded moments, pooling across sites.

BatchNorm layers are always found by module type, never by name: a ResNet's ``downsample.1`` is one too.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from socket_core.errors import MethodError

BnMode = Literal["update", "batch", "frozen"]
"""How BatchNorm layers normalise in a forward pass.

``update``: by the batch, and running statistics follow it (a TR step).
``batch``: by the batch, running statistics untouched (a TI step).
``frozen``: by the running statistics, untouched.
"""


def bn_layers(model: nn.Module) -> dict[str, _BatchNorm]:
    """All BatchNorm layers by qualified name, in module order."""
    return {name: m for name, m in model.named_modules() if isinstance(m, _BatchNorm)}


def bn_parameter_names(model: nn.Module) -> set[str]:
    """Qualified names of the affine parameters of all BatchNorm layers."""
    return {f"{layer}.{name}" for layer, m in bn_layers(model).items() for name, _ in m.named_parameters(recurse=False)}


@contextmanager
def bn_mode(model: nn.Module, mode: BnMode) -> Iterator[None]:
    """Runs the body with all BatchNorm layers in ``mode``, then restores what was set before."""
    layers = list(bn_layers(model).values())
    before = [(m.training, m.track_running_stats) for m in layers]
    try:
        for m in layers:
            m.train(mode != "frozen")
            # Without tracking, a layer in train mode passes no buffers to the kernel: nothing can move.
            m.track_running_stats = mode != "batch"
        yield
    finally:
        for m, (training, tracking) in zip(layers, before, strict=True):
            m.train(training)
            m.track_running_stats = tracking


@dataclass(frozen=True)
class Moments:
    """Mean and biased variance of one layer's input per channel, over ``count`` values (N, H and W)."""

    count: int
    mean: Tensor
    var: Tensor


def running_moments(model: nn.Module, count: int) -> dict[str, Moments]:
    """The running statistics of all layers as moments that stand for ``count`` samples."""
    out = {}
    for name, m in bn_layers(model).items():
        mean, var = _tracked(m)
        out[name] = Moments(count, mean.detach().clone(), var.detach().clone())
    return out


@torch.no_grad()
def set_running_moments(model: nn.Module, moments: Mapping[str, Moments]) -> None:
    """Writes moments into the running statistics.

    Raises:
        KeyError: If a layer of the model has no entry.
    """
    for name, m in bn_layers(model).items():
        mean, var = _tracked(m)
        mean.copy_(moments[name].mean)
        var.copy_(moments[name].var)


def _tracked(layer: _BatchNorm) -> tuple[Tensor, Tensor]:
    """The layer's running mean and variance; a layer built without them cannot be adapted."""
    if layer.running_mean is None or layer.running_var is None:
        raise MethodError("a BatchNorm layer has no running statistics", remedy="build it with track_running_stats")
    return layer.running_mean, layer.running_var


def pool_moments(parts: Sequence[Moments]) -> Moments:
    """Moments of the union of several samples from the moments of each.

    ``mean = sum n_i mean_i / n``; ``var = sum n_i (var_i + (mean_i - mean)^2) / n``: the variance of the
    means is part of it, which an average of variances forgets (sites at -5 and +5: 26, not 1).
    Computed in float64 around the pooled mean, so that a large common offset does not cancel.
    Parts are summed in the order given: sort them for a reproducible result.

    Raises:
        ValueError: If there is no part, or no part with a positive count.
    """
    total = sum(p.count for p in parts)
    if total <= 0:
        raise ValueError("pooling needs at least one part with a positive count")
    mean = torch.zeros_like(parts[0].mean, dtype=torch.float64)
    for p in parts:
        mean += (p.count / total) * p.mean.double()
    var = torch.zeros_like(mean)
    for p in parts:
        var += (p.count / total) * (p.var.double() + (p.mean.double() - mean) ** 2)
    dtype = parts[0].mean.dtype
    return Moments(total, mean.to(dtype), var.to(dtype))
