"""Several sources: one network for each, their logits mixed (SOCKET with more than one source; DECISION, CVPR 2021).

With K sources and a trainable ``mixing`` vector v, ``w_k = sigmoid(v_k) / sum_j sigmoid(v_j)`` and the logits
are ``sum_k w_k logits_k``. Sources may differ in backbone and width, never in classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from socket_core.errors import MethodError
from socket_core.models import Model, Network


class Ensemble(Model):
    """K networks and the trainable weights with which their logits are mixed; at first all weigh alike.

    Args:
        networks: At least two, with equally many classes. Each keeps its own parameters and statistics.

    Raises:
        MethodError: If there are fewer than two, one is given twice, or their numbers of classes differ.
    """

    def __init__(self, networks: Sequence[Network]) -> None:
        super().__init__()
        _check(networks)
        self.networks = nn.ModuleList(networks)
        self.mixing = nn.Parameter(torch.zeros(len(networks)))

    @property
    def members(self) -> Sequence[Network]:
        """The K networks."""
        return cast(Sequence[Network], tuple(self.networks))

    @property
    def weights(self) -> Tensor:
        """``w_k = sigmoid(v_k) / sum_j sigmoid(v_j)``, ``(K,)``; gradients reach ``mixing``."""
        # In logarithms: very negative v must not become 0 / 0.
        return nn.functional.logsigmoid(self.mixing).softmax(0)

    def embed(self, x: Tensor) -> Tensor:
        """Outputs of all backbones side by side."""
        return torch.cat([member.embed(x) for member in self.members], dim=1)

    def bottle(self, embedded: Tensor) -> Tensor:
        """Bottleneck features of all members side by side, ``(N, sum_k D_k)``."""
        parts = embedded.split([member.embedding for member in self.members], dim=1)
        return torch.cat([member.bottle(part) for member, part in zip(self.members, parts, strict=True)], dim=1)

    def logits(self, features: Tensor) -> Tensor:
        """``sum_k w_k C_k(f_k)``, shape ``(N, classes)``."""
        each = [m.logits(f) for m, f in zip(self.members, self.split(features), strict=True)]
        return torch.einsum("k,knc->nc", self.weights, torch.stack(each))


def _check(networks: Sequence[Network]) -> None:
    if len(networks) < 2:
        raise MethodError(
            f"an ensemble needs at least two networks, found {len(networks)}",
            where="sources",
            remedy="use the network itself where there is one source",
        )
    if len({id(network) for network in networks}) < len(networks):
        # One module under two names would share weights and statistics between sources.
        raise MethodError("a network is given twice", where="sources", remedy="give each source a network of its own")
    classes = [int(network.classifier.bias.shape[0]) for network in networks]
    if len(set(classes)) > 1:
        raise MethodError(
            f"the sources have different numbers of classes: {', '.join(map(str, classes))}",
            where="sources",
            remedy="combine sources of one task",
        )
