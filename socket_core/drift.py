"""Against client drift: terms that keep a site near the round's global model.

Skewed sites drift apart between two averagings. FedProx (Li et al., MLSys 2020) holds the parameters back; the
alignment of FedSCAl (Yashwanth et al., arXiv 2512.06738) holds the *predictions* on the site's images near those of
the global model. What is implemented of the latter is the idea, a KL term; its augmentations are not.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from socket_core.config import FederationConfig
from socket_core.losses import proximal, teacher_divergence


@dataclass(frozen=True)
class Anchor:
    """The global model of a round, as far as the terms need it.

    Attributes:
        weights: ``federation.proximal`` and ``federation.alignment``.
        parameters: The travelling parameters by key, as they learn.
        start: Copies of them from the beginning of the round.
        probabilities: The global model's predictions for the site's TR images, ``(N, K)``.
    """

    weights: FederationConfig
    parameters: Mapping[str, Tensor]
    start: Mapping[str, Tensor]
    probabilities: Tensor

    def terms(self, logits: Tensor, index: Tensor) -> dict[str, Tensor]:
        """Weighted terms for TR logits ``(N, K)`` of the images at ``index``."""
        out = {}
        if self.weights.proximal > 0:
            pull = proximal([self.parameters[k] for k in self.start], list(self.start.values()))
            out["proximal"] = self.weights.proximal * pull
        if self.weights.alignment > 0:
            out["alignment"] = self.weights.alignment * teacher_divergence(self.probabilities[index], logits)
        return out


def asked_for(weights: FederationConfig) -> bool:
    """Whether any term is on."""
    return weights.proximal > 0 or weights.alignment > 0
