"""Scores of a model on unlabelled target images, to choose a round without a label.

Each takes predictions only, and more is better. None is a guarantee: all of them can prefer a confident collapse, so
each is reported with the number and entropy of the predicted classes beside it.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

SND_MOST = 2048
"""Images that SND compares with each other: its memory grows with their square."""

Score = Callable[[Tensor], float]


def information(logits: Tensor) -> float:
    """Mutual information of image and predicted class in nats, ``H(mean_i p_i) - mean_i H(p_i)``; ``(N, K)``.

    Between 0 and ``log K``: sure of each image, even over classes (Musgrave et al., 2022, as "IM").
    """
    p = logits.double().softmax(1)
    return float(_entropy(p.mean(0)) - _entropy(p).mean())


def soft_neighbourhood_density(logits: Tensor, temperature: float = 0.05) -> float:
    """SND (Saito et al., ICCV 2021): entropy of the similarities of each image to all others, in nats.

    Predictions ``p_i`` are normalised, ``s_ij = softmax_j(p_i . p_j / temperature)`` without ``j = i``; where classes
    form dense neighbourhoods, the rows of s are spread over many images.

    Args:
        logits: ``(N, K)``, at least two images; of many, every n-th is taken.
        temperature: Of the similarities; 0.05 in the paper.
    """
    every = -(-len(logits) // SND_MOST)
    p = F.normalize(logits[::every].double().softmax(1), dim=1)
    similarity = p @ p.T / temperature
    similarity.fill_diagonal_(-torch.inf)
    return float(_entropy(similarity.softmax(1)).mean())


def nuclear_norm(logits: Tensor) -> float:
    """BNM (Cui et al., CVPR 2020): nuclear norm of the ``(N, K)`` predictions over ``sqrt(N K)``.

    1 for sure predictions spread evenly over all classes; a collapse to one class scores ``1 / sqrt(K)``.
    """
    p = logits.double().softmax(1)
    return float(torch.linalg.matrix_norm(p, ord="nuc") / (p.shape[0] * p.shape[1]) ** 0.5)


def _entropy(p: Tensor) -> Tensor:
    """Along the last dimension, in nats; 0 log 0 is 0."""
    return -torch.xlogy(p, p).sum(-1)


VALIDATORS: dict[str, Score] = {"im": information, "snd": soft_neighbourhood_density, "bnm": nuclear_norm}
"""By the name that ``method.validator`` uses."""
