"""Shared by the tests of losses: reproducible rows, labels, and gradients."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

WIDTH = 5  # columns: classes of a logit loss, dimensions of a feature loss


def labels(n: int) -> Tensor:
    return (torch.arange(n) * 2 + 1) % WIDTH


def rows(n: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (2 * torch.randn(n, WIDTH, generator=generator, dtype=torch.float64)).to(dtype).requires_grad_()


def gradient(loss: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    x = x.detach().clone().requires_grad_()
    loss(x).backward()
    assert x.grad is not None
    return x.grad
