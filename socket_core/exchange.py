"""Which tensors of a target network travel, and how they become one flat array.

Only trainable floating-point tensors of backbone and bottleneck travel, and with several sources the vector
that mixes them: never a frozen classifier, never an integer buffer. BatchNorm goes by policy and is found by
module type:

* ``local``: nothing of any BatchNorm layer leaves the site (FedBN, Li et al., ICLR 2021).
* ``source``: affine parameters travel; running statistics stay the source's everywhere.
* ``pooled``: affine parameters travel, and running statistics are pooled as moments.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from socket_core.batchnorm import bn_layers, bn_parameter_names
from socket_core.config import BnPolicy
from socket_core.models import Model
from socket_core.translators import Bridge

Flat = NDArray[np.float32]

Spec = tuple[str, tuple[int, ...]]
"""Key and shape of one tensor."""


def travelling_specs(network: Model, policy: BnPolicy) -> tuple[Spec, ...]:
    """Keys and shapes of the parameters that travel, sorted by key."""
    local = bn_parameter_names(network) if policy == "local" else set()
    frozen = {id(p) for member in network.members for p in member.classifier.parameters()}
    named = network.named_parameters()
    return tuple(sorted((key, tuple(p.shape)) for key, p in named if key not in local and id(p) not in frozen))


def bridge_specs(bridge: Bridge) -> tuple[Spec, ...]:
    """Keys and shapes of a translator and its discriminator, sorted by key; running statistics never travel."""
    return tuple(sorted((key, tuple(p.shape)) for key, p in bridge.named_parameters()))


def batchnorm_specs(network: Model, policy: BnPolicy) -> tuple[Spec, ...]:
    """Layers and channel counts of the running statistics that travel: none unless ``pooled``."""
    if policy != "pooled":
        return ()
    return tuple(sorted((name, (m.num_features,)) for name, m in bn_layers(network).items()))


def length(specs: Sequence[Spec]) -> int:
    """Number of values in the flat array."""
    return sum(math.prod(shape) for _, shape in specs)


def flatten(tensors: dict[str, Tensor], specs: Sequence[Spec]) -> Flat:
    """The named tensors as one float32 array in the order of ``specs``.

    Raises:
        KeyError: If a tensor is missing.
    """
    out = np.empty(length(specs), dtype=np.float32)
    at = 0
    for key, shape in specs:
        size = math.prod(shape)
        out[at : at + size] = tensors[key].detach().cpu().numpy().reshape(-1)
        at += size
    return out


def unflatten(flat: Flat, specs: Sequence[Spec]) -> dict[str, Tensor]:
    """Tensors by key from one flat array; the inverse of :func:`flatten`.

    Raises:
        ValueError: If the array has another length than the specs say.
    """
    if flat.shape != (length(specs),):
        raise ValueError(f"expected {length(specs)} values, found shape {flat.shape}")
    out, at = {}, 0
    for key, shape in specs:
        size = math.prod(shape)
        out[key] = torch.from_numpy(flat[at : at + size].reshape(shape).copy())
        at += size
    return out


def parameters_of(network: nn.Module) -> dict[str, Tensor]:
    """All parameters by key."""
    return dict(network.named_parameters())


@torch.no_grad()
def load_flat(network: nn.Module, flat: Flat, specs: Sequence[Spec]) -> None:
    """Writes a flat array into the module's parameters."""
    parameters = parameters_of(network)
    for key, value in unflatten(flat, specs).items():
        parameters[key].copy_(value)


def batchnorm_state(network: Model) -> dict[str, Tensor]:
    """Copies of all that BatchNorm layers hold: affine parameters and running statistics."""
    return {
        f"{layer}.{key}": value.detach().clone()
        for layer, m in bn_layers(network).items()
        for key, value in m.state_dict().items()
    }


@torch.no_grad()
def load_batchnorm_state(network: Model, state: dict[str, Tensor]) -> None:
    """Writes what :func:`batchnorm_state` returned.

    Raises:
        KeyError: If a tensor is missing.
    """
    for layer, m in bn_layers(network).items():
        for key, value in m.state_dict().items():
            value.copy_(state[f"{layer}.{key}"])
