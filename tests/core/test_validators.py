"""Scores without labels: their formulas once more in numpy, their bounds, and what a collapse scores."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from socket_core.validators import VALIDATORS, information, nuclear_norm, soft_neighbourhood_density

N, K = 12, 4


def logits(scale: float = 2.0, seed: int = 0, n: int = N) -> Tensor:
    """Random logits ``(n, K)``."""
    return scale * torch.randn(n, K, generator=torch.Generator().manual_seed(seed))


def sure(labels: list[int], classes: int = K) -> Tensor:
    """Logits of a model that is sure of these classes: every other probability is 0 in double precision."""
    return 1000.0 * torch.eye(classes)[labels]


def probabilities(x: Tensor) -> NDArray[np.float64]:
    """Softmax of each row."""
    exponentials = np.exp(x.numpy().astype(np.float64))
    return np.asarray(exponentials / exponentials.sum(1, keepdims=True))


def entropy(p: NDArray[np.float64]) -> float:
    """Of one distribution without zeros, in nats."""
    return -sum(float(value) * math.log(value) for value in p)


@pytest.mark.parametrize("scale", [0.3, 2.0])
def test_information_is_entropy_of_the_mean_less_mean_of_the_entropies(scale: float) -> None:
    p = probabilities(logits(scale))
    expected = entropy(p.mean(0)) - sum(entropy(row) for row in p) / N
    assert information(logits(scale)) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("temperature", [0.05, 0.5])
def test_density_is_the_mean_entropy_of_similarities_to_all_others(temperature: float) -> None:
    p = probabilities(logits())
    unit = [row / math.sqrt(float((row * row).sum())) for row in p]
    total = 0.0
    for i in range(N):
        to_others = np.array([math.exp(float(unit[i] @ unit[j]) / temperature) for j in range(N) if j != i])
        total += entropy(to_others / to_others.sum())
    assert soft_neighbourhood_density(logits(), temperature) == pytest.approx(total / N, abs=1e-6)
    assert soft_neighbourhood_density(logits(), 0.05) == soft_neighbourhood_density(logits())


def test_nuclear_norm_is_the_sum_of_singular_values_over_its_bound() -> None:
    p = probabilities(logits())
    # Singular values are the roots of the eigenvalues of the small Gram matrix.
    expected = np.sqrt(np.linalg.eigvalsh(p.T @ p)).sum() / math.sqrt(N * K)
    assert nuclear_norm(logits()) == pytest.approx(float(expected), abs=1e-6)


def test_sure_and_even_predictions_reach_the_upper_bounds() -> None:
    best = sure([i % K for i in range(N)])
    assert information(best) == pytest.approx(math.log(K))
    assert nuclear_norm(best) == pytest.approx(1.0)
    # Each image is like N / K - 1 others; the rest weigh exp(-20) as much.
    assert soft_neighbourhood_density(best) == pytest.approx(math.log(N / K - 1), abs=1e-6)


def test_a_collapse_scores_low_but_for_the_density_which_it_maximises() -> None:
    collapsed, undecided = sure([2] * N), torch.zeros(N, K)
    for alike in (collapsed, undecided):
        assert information(alike) == pytest.approx(0.0, abs=1e-12)
        # Why no score is shown without the number of predicted classes.
        assert soft_neighbourhood_density(alike) == pytest.approx(math.log(N - 1))
    assert nuclear_norm(collapsed) == pytest.approx(1 / math.sqrt(K))
    assert nuclear_norm(undecided) == pytest.approx(1 / K)


@pytest.mark.parametrize("name", sorted(VALIDATORS))
@pytest.mark.parametrize("scale", [0.0, 0.5, 5.0, 200.0])
def test_scores_keep_their_bounds_and_are_finite(name: str, scale: float) -> None:
    low, high = {"im": (0.0, math.log(K)), "snd": (0.0, math.log(N - 1)), "bnm": (1 / K, 1.0)}[name]
    for seed in range(5):
        assert low - 1e-9 <= VALIDATORS[name](logits(scale, seed)) <= high + 1e-9


@pytest.mark.parametrize("name", sorted(VALIDATORS))
def test_neither_the_order_of_images_nor_that_of_classes_matters(name: str) -> None:
    score, x = VALIDATORS[name], logits(n=6)
    for order in itertools.islice(itertools.permutations(range(6)), 1, 700, 97):
        assert score(x[list(order)]) == pytest.approx(score(x))
    for order in itertools.permutations(range(K)):
        assert score(x[:, list(order)]) == pytest.approx(score(x))


@pytest.mark.parametrize("name", sorted(VALIDATORS))
def test_logits_are_read_in_double_precision_and_left_as_they_are(name: str) -> None:
    x = logits()
    before = x.clone()
    assert VALIDATORS[name](x) == VALIDATORS[name](x.double())
    assert torch.equal(x, before)
