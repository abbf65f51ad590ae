"""Moments of BatchNorm inputs at no extra pass: the forward pass computes them anyway.

``L_d`` needs mean and variance of every BatchNorm2d input over the TR batch. A hook with ``var_mean`` reads
each activation once more forward and many times backward: 10 to 27 % of a step. In batch mode the kernel
returns mean and 1/std of that very input, and the gradients of the moments fold into one affine map of the
input in the backward pass.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from socket_core.batchnorm import bn_layers


class _NormaliseWithMoments(torch.autograd.Function):
    """``y, mean, var = BN(x)`` in batch mode, differentiable in all three.

    With N values a channel, g the gradient of y, gm and gv those of mean and biased variance:
    ``dx = BN'(g) + gm / N + 2 gv (x - mean) / N``. Written out, with a = gamma / std:
    ``dx = a g + B x + C``, ``B = (2 gv - a dgamma / std) / N``, ``C = (gm - a dbeta) / N - B mean``.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor,
        running: tuple[Tensor | None, Tensor | None],
        momentum: float,
        eps: float,
    ) -> tuple[Tensor, Tensor, Tensor]:
        y, mean, inv_std = torch.native_batch_norm(x, weight, bias, *running, True, momentum, eps)
        var = inv_std.pow(-2) - eps
        ctx.save_for_backward(x, weight, mean, inv_std)
        ctx.eps = eps
        return y, mean, var

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        gy, gm, gv = grads  # autograd fills in zeros for outputs that nobody used
        x, weight, mean, inv_std = ctx.saved_tensors
        _, dgamma, dbeta = torch.ops.aten.native_batch_norm_backward(
            gy, x, weight, None, None, mean, inv_std, True, ctx.eps, [False, True, True]
        )
        count = x.numel() // x.shape[1]
        a = weight * inv_std
        slope = (2 * gv - a * inv_std * dgamma) / count
        offset = (gm - a * dbeta) / count - slope * mean
        shape = (1, -1, 1, 1)
        dx = (gy * a.view(shape)).addcmul_(x, slope.view(shape)).add_(offset.view(shape))
        return dx, dgamma, dbeta, None, None, None


class InputMoments:
    """Records mean and biased variance of the *input* of every BatchNorm2d in a forward pass.

    Use as a context manager around one forward pass. ``means`` and ``variances``, each ``(C_l,)``, belong to
    this object alone: two sources never share a list. The values carry gradients to the network's parameters.

    Args:
        model: Its BatchNorm2d layers are recorded, in the order in which the forward pass reaches them.
    """

    def __init__(self, model: nn.Module) -> None:
        self.means: list[Tensor] = []
        self.variances: list[Tensor] = []
        self._layers = [m for m in bn_layers(model).values() if isinstance(m, nn.BatchNorm2d)]

    def _forward(self, layer: nn.BatchNorm2d, x: Tensor) -> Tensor:
        if not layer.training or layer.momentum is None:
            var, mean = torch.var_mean(x, dim=(0, 2, 3), correction=0)
            y = nn.BatchNorm2d.forward(layer, x)
        else:
            y, mean, var = _normalise(layer, x, layer.momentum)
        self.means.append(mean)
        self.variances.append(var)
        return y

    def __enter__(self) -> InputMoments:
        self.means, self.variances = [], []
        for layer in self._layers:
            layer.forward = partial(self._forward, layer)  # type: ignore[method-assign]  # undone on exit
        return self

    def __exit__(self, *_: object) -> None:
        for layer in self._layers:
            del layer.forward  # the instance's attribute: the class's method shows again


def _normalise(layer: nn.BatchNorm2d, x: Tensor, momentum: float) -> tuple[Tensor, Tensor, Tensor]:
    running: tuple[Tensor | None, Tensor | None] = (None, None)
    if layer.track_running_stats:
        running = (layer.running_mean, layer.running_var)
        if layer.num_batches_tracked is not None:
            layer.num_batches_tracked.add_(1)
    weight = layer.weight if layer.weight is not None else x.new_ones(x.shape[1])
    bias = layer.bias if layer.bias is not None else x.new_zeros(x.shape[1])
    out: tuple[Tensor, Tensor, Tensor] = _NormaliseWithMoments.apply(x, weight, bias, running, momentum, layer.eps)
    return out
