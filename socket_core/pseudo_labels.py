"""Pseudo-labels from class centroids (SHOT, ICML 2020; SOCKET, ECCV 2022, L_pl)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor


@dataclass(frozen=True)
class CentroidRecipe:
    """How centroids and distances are formed.

    Attributes:
        metric: ``euclidean`` or ``cosine`` distance of normalised, one-extended features.
        hard_round: Recompute centroids once more from the first round's hard labels.
        drop_empty: Classes without any hard prediction take no part.
    """

    metric: Literal["euclidean", "cosine"]
    hard_round: bool
    drop_empty: bool


SOCKET_RECIPE = CentroidRecipe("euclidean", hard_round=False, drop_empty=False)
SHOT_RECIPE = CentroidRecipe("cosine", hard_round=True, drop_empty=True)


@torch.no_grad()
def centroid_labels(features: Tensor, probabilities: Tensor, recipe: CentroidRecipe) -> Tensor:
    """Nearest-centroid labels of a whole target set.

    ``g_i = [f_i ; 1] / ||[f_i ; 1]||``, ``c_k = sum_i p_ik g_i / sum_i p_ik``, label_i = nearest centroid.
    Runs in float64: the sums go over the whole set, and a permutation of it must not change a label.

    Args:
        features: ``(N, D)`` bottleneck features in eval mode.
        probabilities: ``(N, K)`` softmax outputs of the same images.
        recipe: See :class:`CentroidRecipe`.

    Returns:
        ``(N,)`` int64 labels in ``0..K-1``; empty for an empty set. A class nobody has is never assigned.
    """
    if len(features) == 0:
        return torch.zeros(0, dtype=torch.int64, device=features.device)
    f, p = features.double(), probabilities.double()
    g = torch.nn.functional.normalize(torch.cat([f, torch.ones_like(f[:, :1])], dim=1), dim=1)
    present = torch.ones(p.shape[1], dtype=torch.bool, device=p.device)
    if recipe.drop_empty:
        present = torch.bincount(p.argmax(1), minlength=p.shape[1]) > 0
    labels = _nearest(g, p, present, recipe)
    if recipe.hard_round:
        labels = _nearest(g, torch.nn.functional.one_hot(labels, p.shape[1]).double(), present, recipe)
    return labels


def _nearest(g: Tensor, weights: Tensor, present: Tensor, recipe: CentroidRecipe) -> Tensor:
    mass = weights.sum(0)
    centroids = (weights.T @ g) / mass.clamp_min(1e-300)[:, None]
    if recipe.metric == "cosine":
        distance = 1.0 - g @ torch.nn.functional.normalize(centroids, dim=1).T
    else:
        distance = torch.cdist(g, centroids, compute_mode="donot_use_mm_for_euclid_dist")
    # A class with no weight has no centroid, and 0/0 must never win.
    distance[:, ~present | (mass <= 0)] = torch.inf
    return distance.argmin(1)
