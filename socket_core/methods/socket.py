"""SOCKET (Ahmed et al., "Cross-Modal Knowledge Transfer Without Task-Relevant Source Data", ECCV 2022).

``L = pl L_pl + im L_IM + bn L_d + ti L_TI``: SHOT's terms on the task-relevant target images, BatchNorm
moments of these images drawn to the source's statistics, and target features of task-irrelevant pairs
drawn to the frozen source's features of their RGB halves. One summed loss, one step an iteration.

With several sources L_pl and L_IM see the mixed logits, and so teach the mixing weights; L_d and L_TI hold each
member to its own source, and their plain mean over members counts [ours]. Scaled by the trainable weights, as the
release does, the two would pull the weights to whichever source has the smaller distance, and not to the better one.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack

import torch
from torch import Tensor

from socket_core.batchnorm import bn_layers, bn_mode
from socket_core.bn_moments import InputMoments
from socket_core.config import MethodConfig
from socket_core.errors import MethodError
from socket_core.losses import feature_distance_frobenius, feature_distance_per_sample
from socket_core.methods.base import Terms, TiBatch, TrBatch
from socket_core.methods.shot import Shot
from socket_core.models import Model, Network
from socket_core.moment_loss import MomentDistance
from socket_core.translators import Bridge

TI_LOSSES = {"frobenius": feature_distance_frobenius, "per_sample": feature_distance_per_sample}


class Socket(Shot):
    """SOCKET with one source or several."""

    name = "socket"
    several_sources = True
    private_pairs = True
    recipe = "socket"

    @classmethod
    def needs_pairs(cls, cfg: MethodConfig) -> bool:
        """For L_TI."""
        return cfg.weights.ti > 0

    def configure(self, target: Model, source: Model, bridge: Bridge | None = None) -> None:
        """Also keeps copies of each source's running statistics, the aim of L_d."""
        super().configure(target, source, bridge)
        aims = [_statistics(member) for member in source.members]
        self._distances = [MomentDistance(*aim, self.cfg.first_layer) if aim[0] else None for aim in aims]

    def check(self) -> None:
        """Also refuses BatchNorm matching on a backbone without BatchNorm2d."""
        super().check()
        if self.weights.bn > 0 and None in self._distances:
            raise MethodError(
                "L_d needs BatchNorm2d layers, and the backbone has none",
                where="method.weights.bn",
                remedy="set it to 0 or use a BatchNorm backbone",
            )

    def active_weights(self) -> dict[str, float]:
        """All terms."""
        return self.weights.model_dump()

    def step(self, tr: TrBatch, ti: TiBatch | None) -> Terms:
        """A TR forward pass that records moments, then a TI forward pass that leaves statistics alone."""
        weights = self.weights
        recorded: list[InputMoments] = []
        with bn_mode(self.target, self.tr_mode()), ExitStack() as stack:
            if weights.bn > 0:
                recorded = [stack.enter_context(InputMoments(member)) for member in self.target.members]
            logits = self.target(tr.x)
        terms = self.tr_terms(logits, tr.index)
        if weights.bn > 0:
            terms["bn"] = weights.bn * self._moment_distance(recorded)
        if weights.ti > 0 and ti is not None and len(ti.x) > 0:
            with bn_mode(self.target, self.ti_mode()):
                features = self.target.features(ti.x)
            terms["ti"] = weights.ti * self._feature_distance(ti.source_features, features)
        return terms

    def pair_loss(self, out: Tensor, source_features: Tensor, rgb: Tensor | None = None) -> Tensor:
        """L_TI of one pair, averaged over its views."""
        return self.weights.ti * self._feature_distance(source_features, out)

    def _moment_distance(self, recorded: Sequence[InputMoments]) -> Tensor:
        """L_d of each member against its own source, averaged."""
        both = zip(recorded, self._distances, strict=True)
        return _mean([distance(own.means, own.variances) for own, distance in both if distance is not None])

    def _feature_distance(self, source: Tensor, target: Tensor) -> Tensor:
        """L_TI of each member against its own source, averaged; both ``(M, D)``, the members side by side."""
        both = zip(self.source.split(source), self.target.split(target), strict=True)
        return _mean([TI_LOSSES[self.cfg.ti_loss](one, other) for one, other in both])


def _statistics(network: Network) -> tuple[list[Tensor], list[Tensor]]:
    """Copies of the running means and variances of the BatchNorm2d layers, in lists of this network alone."""
    layers = [m for m in bn_layers(network).values() if isinstance(m, torch.nn.BatchNorm2d)]
    means = [m.running_mean.clone() for m in layers if m.running_mean is not None]
    return means, [m.running_var.clone() for m in layers if m.running_var is not None]


def _mean(distances: Sequence[Tensor]) -> Tensor:
    return torch.stack(list(distances)).mean()
