"""Confusion counts and what they say, on examples by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from socket_core.batchnorm import bn_layers
from socket_core.data.loader import Loader, Preprocessing
from socket_core.data.types import Images, Index, Labelled
from socket_core.evaluation import confusion, evaluate, predict, scores
from tests.core.builders import CLASSES, changed, depth_images, experiment, snapshot, tiny_network

PREP = Preprocessing.of(experiment().data)


def _index(*values: int) -> Index:
    return np.array(values, dtype=np.int64)


def test_confusion_counts_true_by_predicted() -> None:
    counts = confusion(_index(0, 0, 1, 2, 2, 2), _index(0, 1, 1, 2, 2, 0), 3)
    assert counts.tolist() == [[1, 1, 0], [0, 1, 0], [1, 0, 2]]
    assert counts.dtype == np.int64


def test_confusion_keeps_classes_that_do_not_occur() -> None:
    assert confusion(_index(1), _index(1), 4).sum() == 1
    assert confusion(_index(), _index(), 4).tolist() == [[0] * 4] * 4


@pytest.mark.parametrize(("labels", "predictions"), [((3,), (0,)), ((0,), (3,)), ((-1,), (0,)), ((0,), (-1,))])
def test_labels_and_predictions_out_of_range_are_refused(labels: tuple[int, ...], predictions: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"0\.\.2"):
        confusion(_index(*labels), _index(*predictions), 3)


def test_scores_by_hand() -> None:
    result = scores(np.array([[1, 1, 0], [0, 1, 0], [1, 0, 2]]))
    assert result.accuracy == pytest.approx(4 / 6)
    assert result.macro_f1 == pytest.approx((2 / 4 + 2 / 3 + 4 / 5) / 3)
    assert result.classes_predicted == 3
    assert result.prediction_entropy == pytest.approx(1.0)  # two predictions of each class
    assert not result.collapsed


def test_confusion_of_sites_adds_up() -> None:
    labels, predictions = _index(0, 1, 2, 1), _index(0, 2, 2, 1)
    parts = [confusion(labels[s], predictions[s], 3) for s in (slice(0, 1), slice(1, 4))]
    assert scores(parts[0] + parts[1]) == scores(confusion(labels, predictions, 3))


def test_a_class_never_seen_nor_predicted_counts_as_zero() -> None:
    assert scores(np.diag([2, 2, 0, 0])).macro_f1 == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("predicted", "entropy", "collapsed"),
    [
        ((8, 0, 0, 0), 0.0, True),
        ((7, 1, 0, 0), -(7 / 8 * math.log(7 / 8) + 1 / 8 * math.log(1 / 8)) / math.log(4), True),
        ((4, 4, 0, 0), 0.5, False),
        ((2, 2, 2, 2), 1.0, False),
    ],
)
def test_collapse_is_low_entropy_of_predictions(predicted: tuple[int, ...], entropy: float, collapsed: bool) -> None:
    counts = np.zeros((4, 4), dtype=np.int64)
    counts[0] = predicted
    result = scores(counts)
    assert result.prediction_entropy == pytest.approx(entropy)
    assert result.collapsed is collapsed
    assert result.classes_predicted == sum(n > 0 for n in predicted)


def test_an_empty_set_has_no_accuracy() -> None:
    result = scores(np.zeros((3, 3), dtype=np.int64))
    assert math.isnan(result.accuracy)
    assert math.isnan(result.macro_f1)
    assert result.classes_predicted == 0


def test_one_class_is_no_collapse() -> None:
    result = scores(np.array([[4]]))
    assert (result.accuracy, result.prediction_entropy, result.collapsed) == (1.0, 1.0, False)


@pytest.mark.parametrize("training", [True, False])
def test_prediction_uses_running_statistics_and_changes_nothing(training: bool) -> None:
    network = tiny_network().train(training)
    loader = Loader(depth_images(9), PREP, torch.device("cpu"))
    before = snapshot(network)
    predictions = predict(network, loader)
    assert changed(before, snapshot(network)) == set()
    assert all(m.training == training for m in bn_layers(network).values())
    with torch.no_grad():
        expected = tiny_network().eval()(loader.batch(np.arange(9))).argmax(1)
    assert predictions.tolist() == expected.tolist()


def test_prediction_of_many_images_is_in_order() -> None:
    loader = Loader(depth_images(300), PREP, torch.device("cpu"))
    network = tiny_network()
    whole = predict(network, loader)
    assert len(whole) == 300
    tail = Loader(depth_images(300).take(np.arange(290, 300)), PREP, torch.device("cpu"))
    assert predict(network, tail).tolist() == whole[290:].tolist()


def test_evaluate_counts_images_by_label() -> None:
    images = depth_images(9)
    network = tiny_network()
    predictions = predict(network, Loader(images, PREP, torch.device("cpu")))
    labels = np.arange(9) % CLASSES
    counts = evaluate(network, Labelled(images, labels), PREP, CLASSES)
    assert counts.tolist() == confusion(labels, predictions, CLASSES).tolist()


def test_evaluate_on_no_images() -> None:
    empty = Labelled(Images(np.zeros((0, 16, 16), np.uint16), 1.0), _index())
    assert evaluate(tiny_network(), empty, PREP, CLASSES).sum() == 0
