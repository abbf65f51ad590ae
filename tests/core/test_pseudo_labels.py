"""Centroid labels against a reference in plain loops, an example by hand, and sets that lack something."""

from __future__ import annotations

import math
from itertools import product
from operator import mul
from typing import Literal

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from socket_core.pseudo_labels import SHOT_RECIPE, SOCKET_RECIPE, CentroidRecipe, centroid_labels

Rows = list[list[float]]
METRICS: tuple[Literal["euclidean", "cosine"], ...] = ("euclidean", "cosine")
RECIPES = [CentroidRecipe(*options) for options in product(METRICS, [False, True], [False, True])]
SOFT_COSINE = CentroidRecipe("cosine", hard_round=False, drop_empty=False)
every_recipe = pytest.mark.parametrize("recipe", RECIPES, ids=lambda r: f"{r.metric}-{r.hard_round}-{r.drop_empty}")


def _reference(features: Rows, weights: Rows, recipe: CentroidRecipe) -> list[int]:
    """The definition, one image and one class at a time."""
    extended = [[*f, 1.0] for f in features]
    g = [[v / math.hypot(*row) for v in row] for row in extended]
    labels: list[int] = []
    classes = range(len(weights[0]))
    winners = {max(classes, key=lambda k: row[k]) for row in weights}
    allowed = [k for k in classes if k in winners or not recipe.drop_empty]
    for hard in (False, True) if recipe.hard_round else (False,):
        if hard:
            weights = [[float(k == label) for k in classes] for label in labels]
        centroids = {}
        for k in allowed:
            mass = sum(row[k] for row in weights)
            if mass > 0:
                weighed = [[w[k] * v / mass for v in x] for w, x in zip(weights, g, strict=True)]
                centroids[k] = [sum(column) for column in zip(*weighed, strict=True)]
        labels = []
        for x in g:
            if recipe.metric == "euclidean":
                distance = {k: math.dist(x, c) for k, c in centroids.items()}
            else:
                distance = {k: -sum(map(mul, x, c)) / math.hypot(*c) for k, c in centroids.items()}
            labels.append(min(distance, key=lambda k: distance[k]))
    return labels


def _random(seed: int, n: int, classes: int, width: int = 4) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(n, width, generator=generator)
    return features, (2 * torch.randn(n, classes, generator=generator)).softmax(1)


def test_example_by_hand() -> None:
    # g = (f, 1) / |(f, 1)| = (-.949, .316), (-.894, .447), (.894, .447), (.949, .316). Centroids have
    # first coordinates (.9 * -.949 + .9 * -.894 + .1 * .894 + .6 * .949) / 2.5 = -0.40 and 0.67:
    # the last image is near the second one, although its own prediction is the first class.
    features = torch.tensor([[-3.0], [-2.0], [2.0], [3.0]])
    probabilities = torch.tensor([[0.9, 0.1], [0.9, 0.1], [0.1, 0.9], [0.6, 0.4]])
    for recipe in RECIPES:
        assert centroid_labels(features, probabilities, recipe).tolist() == [0, 0, 1, 1]


def test_the_recipes_differ_where_they_should() -> None:
    features = torch.tensor([[0.0, -1.0], [0.0, 0.0], [-1.0, 0.0], [0.0, 3.0], [1.0, 2.0]])
    probabilities = torch.tensor([[0.1, 0.9], [0.8, 0.2], [0.4, 0.6], [0.4, 0.6], [0.2, 0.8]])
    assert centroid_labels(features, probabilities, SOCKET_RECIPE).tolist() == [1, 0, 0, 1, 1]
    assert centroid_labels(features, probabilities, SOFT_COSINE).tolist() == [1, 1, 0, 0, 1]
    assert centroid_labels(features, probabilities, SHOT_RECIPE).tolist() == [1, 1, 0, 0, 0]


@every_recipe
@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32), n=st.integers(2, 12), classes=st.integers(2, 4))
def test_labels_equal_the_reference(recipe: CentroidRecipe, seed: int, n: int, classes: int) -> None:
    features, probabilities = _random(seed, n, classes)
    expected = _reference(features.double().tolist(), probabilities.double().tolist(), recipe)
    labels = centroid_labels(features, probabilities, recipe)
    assert labels.dtype == torch.int64
    assert labels.tolist() == expected


@every_recipe
@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32), n=st.integers(2, 40), classes=st.integers(2, 5))
def test_a_permutation_of_the_set_permutes_the_labels(recipe: CentroidRecipe, seed: int, n: int, classes: int) -> None:
    features, probabilities = _random(seed, n, classes)
    order = torch.from_numpy(np.random.default_rng(seed).permutation(n))
    moved = centroid_labels(features[order], probabilities[order], recipe)
    assert torch.equal(moved, centroid_labels(features, probabilities, recipe)[order])


@every_recipe
def test_a_class_without_probability_is_never_assigned(recipe: CentroidRecipe) -> None:
    # The last image is so far from both centroids that a centroid of 0/0, taken as the origin, would be nearer.
    features = torch.tensor([[10.0, 0.0]] * 9 + [[-10.0, 0.0]])
    probabilities = torch.tensor([[0.6, 0.4, 0.0]] * 5 + [[0.4, 0.6, 0.0]] * 5)
    assert 2 not in centroid_labels(features, probabilities, recipe).tolist()


def test_a_class_nobody_predicts_is_dropped_only_on_request() -> None:
    # Class 2 wins nowhere, but most of its probability is at the last image: its centroid is nearest there.
    features = torch.tensor([[-4.0], [-4.0], [4.0], [0.0]])
    probabilities = torch.tensor([[0.98, 0.01, 0.01], [0.98, 0.01, 0.01], [0.01, 0.98, 0.01], [0.4, 0.25, 0.35]])
    for metric in METRICS:
        kept = centroid_labels(features, probabilities, CentroidRecipe(metric, hard_round=False, drop_empty=False))
        dropped = centroid_labels(features, probabilities, CentroidRecipe(metric, hard_round=False, drop_empty=True))
        assert kept.tolist()[3] == 2
        assert 2 not in dropped.tolist()
        assert dropped.tolist()[:3] == [0, 0, 1]


@every_recipe
def test_an_empty_set_has_no_labels(recipe: CentroidRecipe) -> None:
    labels = centroid_labels(torch.zeros(0, 4), torch.zeros(0, 3), recipe)
    assert labels.dtype == torch.int64
    assert labels.shape == (0,)


@every_recipe
def test_one_image_gets_a_class_that_it_has(recipe: CentroidRecipe) -> None:
    label = centroid_labels(torch.tensor([[1.0, 2.0]]), torch.tensor([[0.0, 0.7, 0.3]]), recipe).tolist()
    assert label in ([[1]] if recipe.drop_empty else [[1], [2]])


@every_recipe
def test_one_class_takes_all(recipe: CentroidRecipe) -> None:
    features, _ = _random(0, 5, 2)
    assert centroid_labels(features, torch.ones(5, 1), recipe).tolist() == [0] * 5


@every_recipe
def test_identical_features_share_one_label(recipe: CentroidRecipe) -> None:
    _, probabilities = _random(0, 6, 3)
    labels = centroid_labels(torch.full((6, 4), 0.3), probabilities, recipe)
    assert len(set(labels.tolist())) == 1


def test_labels_carry_no_gradient() -> None:
    features, probabilities = _random(0, 6, 3)
    labels = centroid_labels(features.requires_grad_(), probabilities, SHOT_RECIPE)
    assert not labels.requires_grad
