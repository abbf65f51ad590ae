"""Supervised training on target labels: an upper reference that stamps every report it enters."""

from __future__ import annotations

from torch import Tensor

from socket_core.batchnorm import bn_mode
from socket_core.losses import smoothed_cross_entropy
from socket_core.methods.base import Method, Terms, TiBatch, TrBatch


class Oracle(Method):
    """Label-smoothed cross-entropy with the true target labels; for reporting only.

    Set ``labels`` ``(N,)`` before the first step. The engine passes them to no other method.
    """

    name = "oracle"
    several_sources = True
    trains = True
    oracle = True
    labels: Tensor

    def step(self, tr: TrBatch, ti: TiBatch | None) -> Terms:
        """Cross-entropy of the TR batch."""
        with bn_mode(self.target, self.tr_mode()):
            logits = self.target(tr.x)
        return {"ce": smoothed_cross_entropy(logits, self.labels[tr.index])}
