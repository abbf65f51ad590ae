"""The losses of the papers as pure functions (methods.md section 2).

Shapes: N images, K classes, D features, L layers. ``PER_SAMPLE`` lists the losses in which each term
depends on one record only; all others couple the samples of a batch and can never go through DP-SGD.
Every loss of an empty batch is 0, so that Poisson sampling may draw nobody.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

PER_SAMPLE = frozenset(
    {
        "smoothed_cross_entropy",
        "pseudo_label_loss",
        "feature_distance_per_sample",
        "mean_entropy",
        "reconstruction",
        "teacher_divergence",
    }
)


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
    log_mean = logits.log_softmax(1).logsumexp(0) - math.log(len(logits))
    return -(log_mean.exp() * log_mean).sum()


def information_maximisation(logits: Tensor, prior: Tensor | None = None) -> Tensor:
    """``L_IM = mean_i H(p_i) - H(mean_i p_i)`` (SHOT; SOCKET's TR term); couples the batch.

    Args:
        logits: ``(N, K)``.
        prior: ``(K,)`` class probabilities, all positive. With it the second half is ``KL(mean_i p_i || prior)``
            instead: the mean prediction is drawn to the prior, where ``-H`` draws it to the uniform one. For a
            uniform prior the two differ by the constant ``log K``.
    """
    if prior is None:
        return mean_entropy(logits) - marginal_entropy(logits)
    if len(logits) == 0:
        return _zero(logits)
    mean = logits.softmax(1).mean(0)
    return mean_entropy(logits) - marginal_entropy(logits) - (mean * prior.log()).sum()


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
    both terms by a trainable gate, which training simply closes; with one source there is none here. This is the
    formula as it reads; steps use :class:`socket_core.moment_loss.MomentDistance`.

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


def teacher_divergence(teacher: Tensor, logits: Tensor) -> Tensor:
    """``mean_i KL(q_i || p_i)`` in nats, the first term of TGKT; also server-client alignment; per-sample.

    Args:
        teacher: ``(N, K)`` probabilities q (no gradient); an entry may be 0.
        logits: ``(N, K)`` of the learner p.
    """
    if len(logits) == 0:
        return _zero(logits)
    return F.kl_div(logits.log_softmax(1), teacher, reduction="none").sum(1).mean()


def reconstruction(translated: Tensor, rgb: Tensor) -> Tensor:
    """``L_rec`` of TGMB: squared error between a translated TI image and its RGB half; per-sample.

    The mean over pixels and channels of each image, then over images; ``(N, 3, H, W)``, normalised as the
    source network wants it.
    """
    if len(translated) == 0:
        return _zero(translated)
    return ((translated - rgb) ** 2).flatten(1).mean(1).mean()


def domain_confusion(ti_scores: Tensor, tr_scores: Tensor) -> Tensor:
    """``L_D`` of TGMB: how badly TI and TR can be told apart, as binary cross-entropy in nats; couples the batch.

    The discriminator descends on it; behind a gradient reversal the translator ascends (Ganin and Lempitsky,
    ICML 2015).

    Args:
        ti_scores: ``(N,)`` logits of the discriminator for translated TI images, whose class is 1.
        tr_scores: ``(M,)`` logits for translated TR images, whose class is 0.
    """
    # Each side's mean, so that batches of different sizes count alike.
    ti = F.softplus(-ti_scores).mean() if len(ti_scores) else _zero(ti_scores)
    tr = F.softplus(tr_scores).mean() if len(tr_scores) else _zero(tr_scores)
    return 0.5 * (ti + tr)


def proximal(parameters: Sequence[Tensor], anchors: Sequence[Tensor]) -> Tensor:
    """``1/2 sum ||w - w_0||^2``, FedProx's pull to the round's global parameters (Li et al., MLSys 2020)."""
    parts = [((w - w0) ** 2).sum() for w, w0 in zip(parameters, anchors, strict=True)]
    return 0.5 * torch.stack(parts).sum()
