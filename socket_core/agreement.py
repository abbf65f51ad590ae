"""How far predictions on target images can be trusted, from TI pairs alone: no label is used.

The source model sees the RGB half of a pair as it was trained to. Where another network says the same class for
the depth or infrared half, it carries the source's knowledge over; where it does no better than chance, terms
that trust its predictions (information maximisation, pseudo-labels, distillation) only sharpen wrong classes. The
pairs used are kept out of training. TI pairs show no class of the task, yet what is compared is the whole map from
image to the source's classes.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

ENOUGH = 0.5
"""Share of the source's agreement with itself that earns full trust (docs/adr/0010)."""

Predictor = Callable[[Tensor], Tensor]
"""From images ``(N, 3, H, W)`` to logits ``(N, K)``."""


def cohens_kappa(first: Tensor, second: Tensor, classes: int) -> float:
    """Agreement of two raters beyond chance (Cohen, 1960): ``(observed - expected) / (1 - expected)``.

    Args:
        first: ``(N,)`` class indices.
        second: ``(N,)`` class indices.
        classes: K.

    Returns:
        1 for full agreement, about 0 for independent raters and for a rater who always says the same; 0 as well
        for no images, or if both say one and the same class throughout, which shows nothing.
    """
    if len(first) == 0:
        return 0.0
    shares = [torch.bincount(rater, minlength=classes).double() / len(rater) for rater in (first, second)]
    expected = float((shares[0] * shares[1]).sum())
    observed = float((first == second).double().mean())
    return (observed - expected) / (1 - expected) if expected < 1 else 0.0


class PairProbe:
    """Held-out TI pairs: what the source says of the RGB halves, to be compared with the target halves.

    Args:
        target: Target halves ``(M, 3, H, W)``.
        source_logits: The source's logits for the RGB halves ``(M, K)``.
        again: Its logits for the same RGB halves in another view, shifted and flipped. How far the source agrees
            with itself is all that can be asked of anyone: TI images are of no class that it knows.
    """

    def __init__(self, target: Tensor, source_logits: Tensor, again: Tensor) -> None:
        self._target, self._classes = target, source_logits.shape[1]
        self._said = source_logits.argmax(1)
        self.ceiling = cohens_kappa(self._said, again.argmax(1), self._classes)

    @torch.no_grad()
    def agreement(self, predict: Predictor) -> float:
        """Cohen's kappa between the source on RGB and ``predict`` on the target halves."""
        return cohens_kappa(self._said, predict(self._target).argmax(1), self._classes)

    def trust(self, agreement: float) -> float:
        """What an agreement earns: 0 at chance, 1 from half of the source's agreement with itself on."""
        if self.ceiling <= 0:
            return 0.0
        return min(1.0, max(0.0, agreement / (ENOUGH * self.ceiling)))
