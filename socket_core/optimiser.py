"""The optimisers and learning-rate schedule of the papers (methods.md section 1)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor
from torch.optim.adam import adam
from torch.optim.sgd import sgd

from socket_core.models import Model


class Optimiser(Protocol):
    """What the training loop needs of an optimiser."""

    def zero_grad(self) -> None:
        """Forgets all gradients."""

    def step(self, factor: float) -> None:
        """One update at ``factor`` times the base rate."""


@dataclass
class _Group:
    """Parameters with one base learning rate, and their momentum, which is 0 before the first gradient."""

    parameters: list[Tensor]
    base_lr: float
    momentum: list[Tensor] = field(default_factory=list)


class NesterovSgd:
    """SGD with Nesterov momentum over what may learn in a network.

    The update itself is PyTorch's functional one, in one pass over memory. ``torch.optim.SGD`` would do the same, but
    making one imports the compiler stack: 3 s in every process, and deployed, every message is a process.

    Args:
        network: Its trainable parameters learn.
        lr: Base rate of everything but backbones.
        backbone_lr_scale: Backbones learn at ``lr`` times this.
        momentum: 0 is plain SGD.
        weight_decay: L2 penalty on every trainable parameter.
    """

    def __init__(
        self, network: Model, *, lr: float, backbone_lr_scale: float, momentum: float, weight_decay: float
    ) -> None:
        backbone: list[Tensor] = [p for m in network.members for p in m.backbone.parameters() if p.requires_grad]
        inside = {id(p) for p in backbone}
        rest: list[Tensor] = [p for p in network.parameters() if p.requires_grad and id(p) not in inside]
        self._groups = [_Group(backbone, lr * backbone_lr_scale), _Group(rest, lr)]
        if momentum > 0:
            for group in self._groups:
                group.momentum = [torch.zeros_like(p) for p in group.parameters]
        self._momentum, self._weight_decay = momentum, weight_decay

    def zero_grad(self) -> None:
        """Forgets all gradients."""
        for group in self._groups:
            for p in group.parameters:
                p.grad = None

    @torch.no_grad()
    def step(self, factor: float) -> None:
        """One update of every parameter that has a gradient, at ``factor`` times its base rate."""
        for group in self._groups:
            learning = [i for i, p in enumerate(group.parameters) if p.grad is not None]
            sgd(
                [group.parameters[i] for i in learning],
                [_laid_out_as(group.parameters[i]) for i in learning],
                [group.momentum[i] for i in learning] if self._momentum > 0 else [],
                foreach=False,
                fused=True,
                weight_decay=self._weight_decay,
                momentum=self._momentum,
                lr=group.base_lr * factor,
                dampening=0.0,
                nesterov=self._momentum > 0,
                maximize=False,
            )


class Adam:
    """Adam (Kingma and Ba, ICLR 2015) with its usual constants, for translators: networks from scratch.

    Args:
        parameters: What learns.
        lr: Base rate.
    """

    def __init__(self, parameters: Iterable[Tensor], *, lr: float) -> None:
        self._parameters = [p for p in parameters if p.requires_grad]
        self._lr = lr
        self._first = [torch.zeros_like(p) for p in self._parameters]
        self._second = [torch.zeros_like(p) for p in self._parameters]
        self._steps = [torch.zeros(()) for _ in self._parameters]

    def zero_grad(self) -> None:
        """Forgets all gradients."""
        for p in self._parameters:
            p.grad = None

    @torch.no_grad()
    def step(self, factor: float) -> None:
        """One update of every parameter that has a gradient, at ``factor`` times the base rate."""
        learning = [i for i, p in enumerate(self._parameters) if p.grad is not None]
        adam(
            [self._parameters[i] for i in learning],
            [grad for i in learning if (grad := self._parameters[i].grad) is not None],
            [self._first[i] for i in learning],
            [self._second[i] for i in learning],
            [],
            [self._steps[i] for i in learning],
            amsgrad=False,
            beta1=0.9,
            beta2=0.999,
            lr=self._lr * factor,
            weight_decay=0.0,
            eps=1e-8,
            maximize=False,
        )


def lr_factor(step: int, total: int) -> float:
    """``(1 + 10 i / total)^-0.75`` for step ``i`` of the whole job, counted from 0."""
    return float((1.0 + 10.0 * step / total) ** -0.75)


def _laid_out_as(parameter: Tensor) -> Tensor:
    """Its gradient with its strides: the fused update goes through memory and would mix values up otherwise."""
    grad = parameter.grad
    assert grad is not None
    return grad if grad.stride() == parameter.stride() else torch.empty_like(parameter).copy_(grad)
