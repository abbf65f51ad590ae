"""SOCKET (Ahmed et al., "Cross-Modal Knowledge Transfer Without Task-Relevant Source Data", ECCV 2022).

``L = pl L_pl + im L_IM + bn L_d + ti L_TI``: SHOT's terms on the task-relevant target images, BatchNorm
moments of these images drawn to the source's statistics, and target features of task-irrelevant pairs
drawn to the frozen source's features of their RGB halves. One summed loss, one step an iteration.
"""

from __future__ import annotations

import torch

from socket_core.batchnorm import bn_layers, bn_mode
from socket_core.bn_moments import InputMoments
from socket_core.config import MethodConfig
from socket_core.errors import MethodError
from socket_core.losses import bn_matching, feature_distance_frobenius, feature_distance_per_sample
from socket_core.methods.base import Terms, TiBatch, TrBatch
from socket_core.methods.shot import Shot
from socket_core.models import Network
from socket_core.translators import Bridge

TI_LOSSES = {"frobenius": feature_distance_frobenius, "per_sample": feature_distance_per_sample}


class Socket(Shot):
    """SOCKET with one source."""

    name = "socket"
    recipe = "socket"

    @classmethod
    def needs_pairs(cls, cfg: MethodConfig) -> bool:
        """For L_TI."""
        return cfg.weights.ti > 0

    def configure(self, target: Network, source: Network, bridge: Bridge | None = None) -> None:
        """Also keeps copies of the source's running statistics, the aim of L_d."""
        super().configure(target, source, bridge)
        layers = [m for m in bn_layers(source).values() if isinstance(m, torch.nn.BatchNorm2d)]
        self._source_means = [m.running_mean.clone() for m in layers if m.running_mean is not None]
        self._source_vars = [m.running_var.clone() for m in layers if m.running_var is not None]

    def check(self) -> None:
        """Also refuses BatchNorm matching on a backbone without BatchNorm2d."""
        super().check()
        if self.weights.bn > 0 and not self._source_means:
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
        with bn_mode(self.target, self.tr_mode()):
            if weights.bn > 0:
                with InputMoments(self.target) as moments:
                    logits = self.target(tr.x)
            else:
                logits = self.target(tr.x)
        terms = self.tr_terms(logits, tr.index)
        if weights.bn > 0:
            terms["bn"] = weights.bn * bn_matching(
                moments.means, moments.variances, self._source_means, self._source_vars, self.cfg.first_layer
            )
        if weights.ti > 0 and ti is not None and len(ti.x) > 0:
            with bn_mode(self.target, self.ti_mode()):
                features = self.target.features(ti.x)
            terms["ti"] = weights.ti * TI_LOSSES[self.cfg.ti_loss](ti.source_features, features)
        return terms
