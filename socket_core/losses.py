"""The losses of the papers as pure functions (methods.md section 2).

Shapes: N images, K classes, D features, L layers. ``PER_SAMPLE`` lists the losses in which each term
depends on one record only; all others couple the samples of a batch and can never go through DP-SGD.
Every loss of an empty batch is 0, so that Poisson sampling may draw nobody.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

PER_SAMPLE = frozenset({"smoothed_cross_entropy", "pseudo_label_loss", "feature_distance_per_sample", "mean_entropy"})


def _zero(like: Tensor) -> Tensor:
    """A zero that still belongs to the graph, so that ``backward`` works on an empty batch."""
    return like.sum() * 0.0


def smoothed_cross_entropy(logits: Tensor, labels: Tensor, smoothing: float = 0.1) -> Tensor:
    """Cross-entropy against ``(1 - s) onehot + s / K``; per-sample.

    Args:
        logits: ``(N, K)``.
        labels: ``(N,)`` int64.
        smoothing: s in [0, 1).
    """
    if len(logits) == 0:
        return _zero(logits)
    return F.cross_entropy(logits, labels, label_smoothing=smoothing)


def mean_entropy(logits: Tensor) -> Tensor:
    """``mean_i H(p_i)`` in nats, first half of L_IM; per-sample. ``logits``: ``(N, K)``."""
    if len(logits) == 0:
        return _zero(logits)
    log_p = logits.log_softmax(1)
    return -(log_p.exp() * log_p).sum(1).mean()


def marginal_entropy(logits: Tensor) -> Tensor:
    """``H(mean_i p_i)`` in nats, the diversity half of L_IM; couples the batch. ``logits``: ``(N, K)``."""
    if len(logits) == 0:
        return _zero(logits)
    # log of the mean probability straight from logits: no log(0) for a class nobody has.
    log_mean = logits.log_softmax(1).logsumexp(0) - torch.log(torch.tensor(float(len(logits)), dtype=logits.dtype))
    return -(log_mean.exp() * log_mean).sum()


def information_maximisation(logits: Tensor) -> Tensor:
    """``L_IM = mean_i H(p_i) - H(mean_i p_i)`` (SHOT; SOCKET's TR term); couples the batch."""
    return mean_entropy(logits) - marginal_entropy(logits)


def pseudo_label_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """``L_pl``: plain cross-entropy with pseudo-labels that are fixed for the step; per-sample."""
    return smoothed_cross_entropy(logits, labels, smoothing=0.0)


def bn_matching(
    means: Sequence[Tensor],
    variances: Sequence[Tensor],
    running_means: Sequence[Tensor],
    running_vars: Sequence[Tensor],
    first_layer: float = 10.0,
) -> Tensor:
    """``L_d = sum_l m_l (||mean_l - running_mean_l||_2 + ||var_l - running_var_l||_2)``; couples the batch.

    Norms are not squared; ``m`` is ``first_layer`` for the first layer and 1 elsewhere. The release scales
    both terms by a trainable gate, which training simply closes; with one source there is none here.

    Args:
        means: L batch means of BatchNorm2d inputs, each ``(C_l,)``.
        variances: L biased batch variances, each ``(C_l,)``.
        running_means: L running means of the *source*.
        running_vars: L running variances of the *source*.
        first_layer: m of the first layer.

    Raises:
        ValueError: If the four lists differ in length or are empty.
    """
    sizes = {len(means), len(variances), len(running_means), len(running_vars)}
    if len(sizes) != 1 or not means:
        raise ValueError(f"BatchNorm matching needs four lists of one length >= 1, found lengths {sorted(sizes)}")
    total: Tensor = means[0].new_zeros(())
    for i, (mean, var, rmean, rvar) in enumerate(zip(means, variances, running_means, running_vars, strict=True)):
        weight = first_layer if i == 0 else 1.0
        total = total + weight * (torch.linalg.vector_norm(mean - rmean) + torch.linalg.vector_norm(var - rvar))
    return total


def feature_distance_frobenius(source: Tensor, target: Tensor) -> Tensor:
    """``L_TI`` as released: ``||f_S - f_T||_F`` over the whole batch; couples the batch.

    Args:
        source: ``(N, D)`` features of the RGB halves (no gradient).
        target: ``(N, D)`` features of their pairs.
    """
    if len(target) == 0:
        return _zero(target)
    norm: Tensor = torch.linalg.vector_norm(source - target)
    return norm


def feature_distance_per_sample(source: Tensor, target: Tensor) -> Tensor:
    """``L_TI`` as mean over pairs and dimensions of the squared distance; per-sample.

    The mean over D keeps one weight usable for narrow and wide networks. Shapes as in
    :func:`feature_distance_frobenius`.
    """
    if len(target) == 0:
        return _zero(target)
    return ((source - target) ** 2).mean(1).mean()
