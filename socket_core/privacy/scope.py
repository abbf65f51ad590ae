"""Which parameters TI steps under DP may train.

Noise grows with the square root of their number, the signal does not: few parameters are often worth more than all.
"""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor, nn

from socket_core.batchnorm import bn_parameter_names
from socket_core.config_privacy import Scope
from socket_core.errors import MethodError
from socket_core.models import Model


def scope_parameters(network: Model, scope: Scope) -> dict[str, Tensor]:
    """Trainable parameters of the scope by qualified name; never a classifier's or the mixing of sources.

    ``bottleneck``; ``bn_affine``: scales and shifts of all BatchNorm layers; ``last_stage``: the backbone's last
    stage and the bottleneck; ``all``: backbone and bottleneck.

    Raises:
        MethodError: If nothing of it may train.
    """
    parts: list[nn.Module] = []
    for member in network.members:
        parts.append(member.bottleneck)
        if scope in ("bn_affine", "all"):
            parts.append(member.backbone)
        elif scope == "last_stage":
            parts.extend(last_stage(member.backbone))
    inside = {id(p) for part in parts for p in part.parameters()}
    named: dict[str, Tensor] = {}
    named |= {name: p for name, p in network.named_parameters() if id(p) in inside and p.requires_grad}
    if scope == "bn_affine":
        affine = bn_parameter_names(network)
        named = {name: p for name, p in named.items() if name in affine}
    if not named:
        raise MethodError("no trainable parameter in it", where=f"privacy.scope {scope}", remedy="use another scope")
    return named


def last_stage(backbone: nn.Module) -> Iterable[nn.Module]:
    """The last child with parameters; of a flat list of layers (VGG) all after the last pooling but one."""
    children = list(backbone.children())
    learning = [child for child in children if any(True for _ in child.parameters())]
    if len(learning) == 1 and list(learning[0].children()):
        return last_stage(learning[0])
    if learning and list(learning[-1].children()):
        return learning[-1:]
    pools = [i for i, child in enumerate(children) if isinstance(child, nn.MaxPool2d)]
    return children[pools[-2] + 1 :] if len(pools) > 1 else children
