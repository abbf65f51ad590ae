"""The optimiser and learning-rate schedule of the papers (methods.md section 1)."""

from __future__ import annotations

import torch

from socket_core.models import Network


def sgd(
    network: Network, *, lr: float, backbone_lr_scale: float, momentum: float, weight_decay: float
) -> torch.optim.SGD:
    """Nesterov SGD over what may learn; the backbone at ``lr * backbone_lr_scale``, the rest at ``lr``."""
    backbone = [p for p in network.backbone.parameters() if p.requires_grad]
    inside = {id(p) for p in backbone}
    rest = [p for p in network.parameters() if p.requires_grad and id(p) not in inside]
    groups = [{"params": backbone, "base_lr": lr * backbone_lr_scale}, {"params": rest, "base_lr": lr}]
    return torch.optim.SGD(
        [{**g, "lr": g["base_lr"]} for g in groups if g["params"]],
        lr=lr,
        momentum=momentum,
        weight_decay=weight_decay,
        nesterov=momentum > 0,
    )


def set_lr(optimiser: torch.optim.Optimizer, step: int, total: int) -> None:
    """``lr(i) = lr0 (1 + 10 i / total)^-0.75`` for step i of the whole job, counted from 0."""
    decay = (1.0 + 10.0 * step / total) ** -0.75
    for group in optimiser.param_groups:
        group["lr"] = group["base_lr"] * decay
