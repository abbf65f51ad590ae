"""A method of one's own: self-training on the surest predictions of each class (see docs/add-a-method.md).

Class-balanced self-training, the idea of Zou et al. (ECCV 2018): about once an epoch the network labels the images
itself, and of each class the surer half counts until the next time.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from socket_core.batchnorm import bn_mode
from socket_core.errors import MethodError
from socket_core.methods import Method, register
from socket_core.methods.base import Pool, Terms, TiBatch, TrBatch
from socket_core.reading import Reading, read

NOT_SURE = -1


@register
class Balanced(Method):
    """``L = pl L_pl`` on the surer half of each class; ``method.weights.pl`` is the weight."""

    name = "balanced"
    trains = True  # backbone and bottleneck learn, the classifier never does
    several_sources = True  # sees logits alone, so that a mixture of sources is as good as one

    def check(self) -> None:
        """Refuses a job in which nothing would be learnt."""
        super().check()
        if self.cfg.weights.pl == 0:
            raise MethodError("nothing to learn", where="method.weights.pl", remedy="give it a positive weight")

    @torch.no_grad()
    def refresh(self, pool: Pool, seen: Reading | None = None) -> None:
        """New labels ``(N,)`` for the whole target set, before the first step and then about once an epoch."""
        seen = seen or read(self.target, pool)
        self.labels = surer_half(seen.logits.softmax(1))

    def step(self, tr: TrBatch, ti: TiBatch | None) -> Terms:
        """Cross-entropy on the images of the batch that have a label; 0 if none has."""
        with bn_mode(self.target, self.tr_mode()):
            logits = self.target(tr.x)
        labels = self.labels[tr.index]
        total = F.cross_entropy(logits, labels, ignore_index=NOT_SURE, reduction="sum")
        return {"pl": self.cfg.weights.pl * total / (labels != NOT_SURE).sum().clamp(min=1)}


def surer_half(probabilities: Tensor) -> Tensor:
    """The predicted class of each image ``(N,)``, or ``NOT_SURE`` in the less sure half of a class.

    Args:
        probabilities: ``(N, K)``.
    """
    sure, labels = probabilities.max(1)
    for label in labels.unique():
        own = labels == label
        labels[own & (sure < sure[own].quantile(0.5))] = NOT_SURE
    return labels
