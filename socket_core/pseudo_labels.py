"""Pseudo-labels from class centroids (SHOT, ICML 2020; SOCKET, ECCV 2022, L_pl)."""

from __future__ import annotations

from collections.abc import Sequence
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
    """Nearest-centroid labels of a whole target set, with one network.

    ``g_i = [f_i ; 1] / ||[f_i ; 1]||``, ``c_k = sum_i p_ik g_i / sum_i p_ik``, label_i = nearest centroid.

    Args:
        features: ``(N, D)`` bottleneck features in eval mode.
        probabilities: ``(N, K)`` softmax outputs of the same images.
        recipe: See :class:`CentroidRecipe`.

    Returns:
        ``(N,)`` int64 labels in ``0..K-1``; empty for an empty set. A class nobody has is never assigned.
    """
    return mixed_centroid_labels([features], probabilities.new_ones(1), probabilities, recipe)


@torch.no_grad()
def mixed_centroid_labels(
    features: Sequence[Tensor], weights: Tensor, probabilities: Tensor, recipe: CentroidRecipe
) -> Tensor:
    """Labels whose distance to the centroid, mixed over the feature spaces of S sources, is the least.

    ``label_i = argmin_k sum_s w_s d(g_i^s, c_k^s)`` with centroids ``c^s`` in the space of source s, as in DECISION
    (CVPR 2021), whose sources have feature spaces of their own. The probabilities are those of the mixed logits [ours;
    DECISION takes each source's own]: a class is then present, or not, in all spaces at once.
    Runs in float64: the sums go over the whole set, and a permutation of it must not change a label.

    Args:
        features: S tensors ``(N, D_s)``, bottleneck features in eval mode.
        weights: ``(S,)``, how much each space counts.
        probabilities: ``(N, K)`` softmax outputs of the same images.
        recipe: See :class:`CentroidRecipe`.

    Returns:
        As :func:`centroid_labels`.
    """
    if len(probabilities) == 0:
        return torch.zeros(0, dtype=torch.int64, device=probabilities.device)
    p, shares = probabilities.double(), weights.double()
    spaces = [_extended(f.double()) for f in features]
    present = torch.ones(p.shape[1], dtype=torch.bool, device=p.device)
    if recipe.drop_empty:
        present = torch.bincount(p.argmax(1), minlength=p.shape[1]) > 0
    labels = _nearest(spaces, shares, p, present, recipe)
    if recipe.hard_round:
        hard = torch.nn.functional.one_hot(labels, p.shape[1]).double()
        labels = _nearest(spaces, shares, hard, present, recipe)
    return labels


def _extended(f: Tensor) -> Tensor:
    """``[f ; 1]``, normalised."""
    return torch.nn.functional.normalize(torch.cat([f, torch.ones_like(f[:, :1])], dim=1), dim=1)


def _nearest(
    spaces: Sequence[Tensor], shares: Tensor, members: Tensor, present: Tensor, recipe: CentroidRecipe
) -> Tensor:
    """Nearest class of each image; ``members`` ``(N, K)`` says how much each image belongs to each class."""
    mass = members.sum(0)
    distance = torch.zeros_like(members)
    for g, share in zip(spaces, shares, strict=True):
        centroids = (members.T @ g) / mass.clamp_min(1e-300)[:, None]
        distance += share * _distance(g, centroids, recipe)
    # A class with no weight has no centroid, and 0/0 must never win.
    distance[:, ~present | (mass <= 0)] = torch.inf
    return distance.argmin(1)


def _distance(g: Tensor, centroids: Tensor, recipe: CentroidRecipe) -> Tensor:
    if recipe.metric == "cosine":
        return 1.0 - g @ torch.nn.functional.normalize(centroids, dim=1).T
    return torch.cdist(g, centroids, compute_mode="donot_use_mm_for_euclid_dist")
