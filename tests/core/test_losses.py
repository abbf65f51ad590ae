"""Every loss against a formula written another way, its edge cases, and which losses couple the batch."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from socket_core import losses
from socket_core.losses import (
    PER_SAMPLE,
    bn_matching,
    domain_confusion,
    feature_distance_frobenius,
    feature_distance_per_sample,
    information_maximisation,
    marginal_entropy,
    mean_entropy,
    proximal,
    pseudo_label_loss,
    reconstruction,
    smoothed_cross_entropy,
    teacher_divergence,
)
from tests.core.loss_rows import WIDTH, gradient, labels, rows

Floats = NDArray[np.float64]


def _aim(x: Tensor) -> Tensor:
    """Source features: row i is the same whatever the number of rows."""
    rows, columns = torch.meshgrid(torch.arange(len(x)), torch.arange(x.shape[1]), indexing="ij")
    return torch.sin((rows * 7.0 + columns).double()).to(x.dtype)


def _bn(x: Tensor) -> Tensor:
    """L_d of one layer whose input is ``x``."""
    aim = torch.linspace(-1, 1, x.shape[1], dtype=x.dtype)
    return bn_matching([x.mean(0)], [x.var(0, correction=0)], [aim], [aim + 2])


def _teacher(x: Tensor) -> Tensor:
    """Row i is the same whatever the number of rows; one class in each has probability 0."""
    odds = (_aim(x) + 1.5) * (torch.arange(x.shape[1]) != labels(len(x))[:, None])
    return odds / odds.sum(1, keepdim=True)


def _images(x: Tensor) -> Tensor:
    return x[:, :, None, None]


def _domains(x: Tensor) -> Tensor:
    """L_D of the row sums, the first half of them those of TI images: none of one row, three of seven."""
    scores = x.sum(1)
    return domain_confusion(scores[: len(x) // 2], scores[len(x) // 2 :])


# Each loss as a function of (N, WIDTH), with a fixed label or aim for each row.
ROWS: dict[str, Callable[[Tensor], Tensor]] = {
    "smoothed_cross_entropy": lambda x: smoothed_cross_entropy(x, labels(len(x)), 0.1),
    "pseudo_label_loss": lambda x: pseudo_label_loss(x, labels(len(x))),
    "mean_entropy": mean_entropy,
    "marginal_entropy": marginal_entropy,
    "information_maximisation": information_maximisation,
    "feature_distance_frobenius": lambda x: feature_distance_frobenius(_aim(x), x),
    "feature_distance_per_sample": lambda x: feature_distance_per_sample(_aim(x), x),
    "bn_matching": _bn,
    "teacher_divergence": lambda x: teacher_divergence(_teacher(x), x),
    "reconstruction": lambda x: reconstruction(_images(x), _images(_aim(x))),
    "domain_confusion": _domains,
    "proximal": lambda x: proximal([x[:, :2], x[:, 2:]], [_aim(x)[:, :2], _aim(x)[:, 2:]]),
}
LOGIT_LOSSES = [n for n in ROWS if "distance" not in n and n not in ("bn_matching", "reconstruction", "proximal")]


def _softmax(row: Floats) -> list[float]:
    top = float(max(row))
    powers = [math.exp(float(v) - top) for v in row]
    return [p / sum(powers) for p in powers]


def _entropy(p: list[float]) -> float:
    return -sum(v * math.log(v) for v in p if v > 0)


def _mixed_cross_entropy(x: Floats, smoothing: float) -> float:
    total = 0.0
    for i, row in enumerate(x):
        p, label = _softmax(row), (2 * i + 1) % WIDTH
        for k in range(WIDTH):
            total -= ((1 - smoothing) * (k == label) + smoothing / WIDTH) * math.log(p[k])
    return total / len(x)


def _mean_entropy(x: Floats) -> float:
    return sum(_entropy(_softmax(row)) for row in x) / len(x)


def _marginal_entropy(x: Floats) -> float:
    rows = [_softmax(row) for row in x]
    return _entropy([sum(p[k] for p in rows) / len(rows) for k in range(WIDTH)])


def _squares(x: Floats) -> list[float]:
    return [sum((v - math.sin(i * 7.0 + k)) ** 2 for k, v in enumerate(row)) for i, row in enumerate(x.tolist())]


def _moments_distance(x: Floats) -> float:
    aim = np.linspace(-1, 1, WIDTH)
    mean = [sum(x[:, k]) / len(x) for k in range(WIDTH)]
    var = [sum((v - mean[k]) ** 2 for v in x[:, k]) / len(x) for k in range(WIDTH)]
    return 10 * (math.dist(mean, aim) + math.dist(var, aim + 2))


def _divergence_from_teacher(x: Floats) -> float:
    total = 0.0
    for i, row in enumerate(x):
        p = _softmax(row)
        odds = [0.0 if k == (2 * i + 1) % WIDTH else math.sin(7.0 * i + k) + 1.5 for k in range(WIDTH)]
        q = [v / sum(odds) for v in odds]
        total += sum(b * math.log(b / a) for a, b in zip(p, q, strict=True) if b > 0)
    return total / len(x)


def _cross_entropy_of_domains(x: Floats) -> float:
    """``-(mean log s(ti) + mean log(1 - s(tr))) / 2`` with the logistic function s."""
    logistic = [1 / (1 + math.exp(-float(v))) for v in x.sum(1)]
    ti, tr = logistic[: len(x) // 2], logistic[len(x) // 2 :]
    first = -sum(math.log(v) for v in ti) / len(ti) if ti else 0.0
    return (first - sum(math.log(1 - v) for v in tr) / len(tr)) / 2


FORMULAS: dict[str, Callable[[Floats], float]] = {
    "smoothed_cross_entropy": lambda x: _mixed_cross_entropy(x, 0.1),
    "pseudo_label_loss": lambda x: _mixed_cross_entropy(x, 0.0),
    "mean_entropy": _mean_entropy,
    "marginal_entropy": _marginal_entropy,
    "information_maximisation": lambda x: _mean_entropy(x) - _marginal_entropy(x),
    "feature_distance_frobenius": lambda x: math.sqrt(sum(_squares(x))),
    "feature_distance_per_sample": lambda x: sum(_squares(x)) / x.size,
    "bn_matching": _moments_distance,
    "teacher_divergence": _divergence_from_teacher,
    "reconstruction": lambda x: sum(_squares(x)) / x.size,
    "domain_confusion": _cross_entropy_of_domains,
    "proximal": lambda x: sum(_squares(x)) / 2,
}


def test_every_public_loss_is_tested() -> None:
    found = {
        name
        for name, value in inspect.getmembers(losses, inspect.isfunction)
        if value.__module__ == losses.__name__ and not name.startswith("_")
    }
    assert found == ROWS.keys() == FORMULAS.keys()
    assert found >= PER_SAMPLE


@pytest.mark.parametrize("n", [1, 2, 7])
@pytest.mark.parametrize("name", ROWS)
def test_loss_equals_its_formula(name: str, n: int) -> None:
    x = rows(n)
    value = ROWS[name](x).detach()
    assert value.dtype == torch.float64
    assert value.shape == ()
    assert float(value) == pytest.approx(FORMULAS[name](x.detach().numpy()), rel=1e-12, abs=1e-14)


@pytest.mark.parametrize("name", ROWS)
def test_float32_stays_float32_and_close(name: str) -> None:
    x = rows(6, dtype=torch.float32)
    value = ROWS[name](x).detach()
    assert value.dtype == torch.float32
    assert float(value) == pytest.approx(FORMULAS[name](x.detach().double().numpy()), rel=1e-5)


@pytest.mark.parametrize("name", sorted(ROWS.keys() - {"bn_matching"}))
def test_empty_batch_is_zero_and_backpropagates(name: str) -> None:
    x = torch.zeros(0, WIDTH, requires_grad=True)
    value = ROWS[name](x)
    value.backward()
    assert float(value.detach()) == 0.0
    assert x.grad is not None
    assert x.grad.shape == (0, WIDTH)


@pytest.mark.parametrize("name", ROWS)
def test_one_sample_backpropagates(name: str) -> None:
    assert torch.isfinite(gradient(ROWS[name], rows(1))).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", LOGIT_LOSSES)
def test_extreme_logits_stay_finite(name: str, dtype: torch.dtype) -> None:
    x = torch.tensor([[1e4, -1e4, 0, 0, 0], [0, 0, 1e4, -1e4, 0], [-1e4, 0, 0, 0, 1e4]], dtype=dtype)
    value = ROWS[name](x).detach()
    assert torch.isfinite(value)
    assert torch.isfinite(gradient(ROWS[name], x)).all()
    if name == "mean_entropy":
        assert float(value) == 0.0
    if name == "marginal_entropy":
        assert float(value) == pytest.approx(math.log(3), rel=1e-6)
    if name == "pseudo_label_loss":  # labels 1, 3, 0: each at -1e4 where the winner has 1e4
        assert float(value) == pytest.approx(2e4)


def test_marginal_entropy_with_a_class_nobody_has() -> None:
    x = torch.zeros(4, WIDTH, dtype=torch.float64)
    x[:, 0] = -1e5  # exp underflows: the probability is 0 exactly
    assert float(x.softmax(1)[:, 0].max()) == 0.0
    assert float(marginal_entropy(x)) == pytest.approx(math.log(WIDTH - 1))
    assert torch.isfinite(gradient(marginal_entropy, x)).all()


def test_information_maximisation_at_its_bounds() -> None:
    even = 50.0 * torch.eye(WIDTH, dtype=torch.float64)
    collapsed = 50.0 * torch.eye(WIDTH, dtype=torch.float64)[[0] * WIDTH]
    assert float(information_maximisation(even)) == pytest.approx(-math.log(WIDTH))
    assert float(information_maximisation(collapsed)) == pytest.approx(0.0, abs=1e-12)
    assert float(information_maximisation(torch.zeros(3, WIDTH))) == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.5])
def test_smoothed_cross_entropy_takes_its_smoothing(smoothing: float) -> None:
    x = rows(6)
    value = float(smoothed_cross_entropy(x.detach(), labels(6), smoothing))
    assert value == pytest.approx(_mixed_cross_entropy(x.detach().numpy(), smoothing), rel=1e-12)


@pytest.mark.parametrize("name", sorted(ROWS.keys() - {"smoothed_cross_entropy", "pseudo_label_loss", "mean_entropy"}))
def test_gradients_are_those_of_the_function(name: str) -> None:
    assert torch.autograd.gradcheck(ROWS[name], (rows(4),))


def test_bn_matching_gradient_in_moments_of_several_layers() -> None:
    generator = torch.Generator().manual_seed(0)
    tensors = [torch.randn(3, generator=generator, dtype=torch.float64) for _ in range(8)]
    free = [t.requires_grad_() for t in tensors[:4]]

    def loss(a: Tensor, b: Tensor, c: Tensor, d: Tensor) -> Tensor:
        return bn_matching([a, b], [c, d], tensors[4:6], tensors[6:8], first_layer=3.0)

    assert torch.autograd.gradcheck(loss, tuple(free))


@pytest.mark.parametrize("first_layer", [10.0, 1.0, 0.0])
def test_bn_matching_weighs_the_first_layer(first_layer: float) -> None:
    def vectors(*values: list[float]) -> list[Tensor]:
        return [torch.tensor(v, dtype=torch.float64) for v in values]

    means, variances = vectors([3, 4], [0, 0, 2]), vectors([1, 1], [6, 1, 8])
    running_means, running_vars = vectors([0, 0], [0, 0, 0]), vectors([1, 1], [0, 1, 0])
    value = bn_matching(means, variances, running_means, running_vars, first_layer)
    assert float(value) == pytest.approx(first_layer * (5 + 0) + (2 + 10))  # norms of 3-4-5 and 6-8-10, not squared


def test_distances_that_are_zero_have_a_zero_gradient() -> None:
    x = torch.ones(3, WIDTH)
    for distance in (feature_distance_frobenius, feature_distance_per_sample):
        assert torch.equal(gradient(partial(distance, x), x), torch.zeros(3, WIDTH))
    assert torch.equal(gradient(lambda t: bn_matching([t], [t], [x], [x]), x), torch.zeros(3, WIDTH))


@pytest.mark.parametrize("lengths", [(0, 0, 0, 0), (2, 1, 2, 2), (1, 1, 1, 2), (1, 1, 0, 1)])
def test_bn_matching_refuses_lists_that_do_not_fit(lengths: tuple[int, int, int, int]) -> None:
    a, b, c, d = ([torch.zeros(2)] * n for n in lengths)
    with pytest.raises(ValueError, match="four lists of one length"):
        bn_matching(a, b, c, d)


def _couples(loss: Callable[[Tensor], Tensor]) -> bool:
    """Whether N times the gradient of row 0 depends on what the other rows are, or on their being there."""
    x = rows(4).detach()
    other = x.clone()
    other[2] = -3 * x[2] + 1
    mine = [len(v) * gradient(loss, v)[0] for v in (x, other, x[:3])]
    return not all(torch.allclose(g, mine[0], rtol=1e-10, atol=1e-12) for g in mine)


@pytest.mark.parametrize("name", ROWS)
def test_per_sample_lists_exactly_the_losses_that_do_not_couple_samples(name: str) -> None:
    assert _couples(ROWS[name]) == (name not in PER_SAMPLE)


# --- against a prior, a teacher, a discriminator ------------------------------------------------------


PRIOR = [0.05, 0.1, 0.15, 0.3, 0.4]


@pytest.mark.parametrize("n", [1, 2, 7])
def test_information_maximisation_against_a_prior(n: int) -> None:
    x, prior = rows(n), torch.tensor(PRIOR, dtype=torch.float64)
    shares = [_softmax(row) for row in x.detach().numpy()]
    mean = [sum(p[k] for p in shares) / n for k in range(WIDTH)]
    divergence = sum(a * math.log(a / b) for a, b in zip(mean, PRIOR, strict=True))
    expected = sum(map(_entropy, shares)) / n + divergence
    assert float(information_maximisation(x, prior).detach()) == pytest.approx(expected, rel=1e-12)
    assert torch.autograd.gradcheck(lambda t: information_maximisation(t, prior), (x,))


def test_a_uniform_prior_adds_log_k_and_no_gradient() -> None:
    x, uniform = rows(6), torch.full((WIDTH,), 1 / WIDTH, dtype=torch.float64)
    gap = information_maximisation(x, uniform) - information_maximisation(x)
    assert float(gap.detach()) == pytest.approx(math.log(WIDTH), rel=1e-12)
    against = gradient(lambda t: information_maximisation(t, uniform), x)
    assert torch.allclose(against, gradient(information_maximisation, x), rtol=0, atol=1e-15)


def test_information_maximisation_is_zero_for_sure_predictions_that_follow_the_prior() -> None:
    x = 60.0 * torch.eye(WIDTH, dtype=torch.float64)[[0, 1, 1, 2, 2, 2]]
    prior = torch.tensor([1, 2, 3, 0, 0], dtype=torch.float64).div(6).clamp_min(1e-30)
    assert float(information_maximisation(x, prior)) == pytest.approx(0.0, abs=1e-12)
    assert float(information_maximisation(x[[0] * 6], prior)) == pytest.approx(math.log(6))


def test_information_maximisation_of_nobody_against_a_prior() -> None:
    x = torch.zeros(0, WIDTH, requires_grad=True)
    value = information_maximisation(x, torch.tensor(PRIOR))
    value.backward()
    assert float(value.detach()) == 0.0
    assert x.grad is not None
