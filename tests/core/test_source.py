"""Source training keeps the weights of its best epoch, and prepares images as adaptation does."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from socket_core import source
from socket_core.data.loader import Loader, Preprocessing
from socket_core.data.types import Images, Labelled
from socket_core.engine import Segment, adapt
from socket_core.errors import DataError, MethodError
from socket_core.evaluation import Confusion, evaluate
from socket_core.models import Network
from socket_core.source import SourceReport, train_source
from tests.core.builders import CLASSES, changed, experiment, labelled, site_data, snapshot, tiny_network

State = dict[str, Tensor]
TRAIN, TEST = labelled(24, 0), labelled(9, 1)


def _train(train: Labelled = TRAIN, test: Labelled = TEST, **values: Any) -> tuple[Network, SourceReport]:
    return train_source(experiment(**values), train, test, CLASSES)


def _count(correct: int, of: int) -> Confusion:
    return np.array([[correct, of - correct, 0], [0, 0, 0], [0, 0, 0]])


def _script(monkeypatch: pytest.MonkeyPatch, accuracies: list[int]) -> list[State]:
    """Makes the epochs reach these numbers of ten and captures the weights at each evaluation."""
    states: list[State] = []

    def fake(network: Network, data: Labelled, prep: Preprocessing, classes: int) -> Confusion:
        states.append(snapshot(network))
        return _count(accuracies[len(states) - 1], 10)

    monkeypatch.setattr(source, "evaluate", fake)
    return states


@pytest.mark.parametrize(
    ("accuracies", "best"),
    [([9, 3, 5], 1), ([3, 9, 5], 2), ([3, 5, 9], 3), ([5, 9, 9], 3), ([9, 9, 3], 2), ([0, 0, 0], 3)],
)
def test_the_weights_of_the_best_epoch_come_back(
    monkeypatch: pytest.MonkeyPatch, accuracies: list[int], best: int
) -> None:
    # Regression: references instead of copies come back as the weights of the last epoch.
    states = _script(monkeypatch, [*accuracies, 7])
    network, report = _train()
    assert report == SourceReport(best, accuracies[best - 1] / 10, 0.7)
    assert changed(states[best - 1], snapshot(network)) == set()
    assert changed(states[3], snapshot(network)) == set()  # the test accuracy is that of these weights
    for other in {0, 1, 2} - {best - 1}:
        assert "backbone.0.0.weight" in changed(states[other], snapshot(network))


def test_the_network_comes_back_frozen_and_in_eval_mode() -> None:
    network, _ = _train()
    assert not any(m.training for m in network.modules())
    assert not any(p.requires_grad for p in network.parameters())


def test_the_reported_test_accuracy_is_that_of_the_network() -> None:
    network, report = _train()
    counts = evaluate(network, TEST, Preprocessing.of(experiment().data), CLASSES)
    assert report.test_accuracy == counts.trace() / len(TEST)


def test_the_same_seed_gives_the_same_bits_whatever_the_global_state() -> None:
    results = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        before = torch.random.get_rng_state()
        network, report = _train()
        assert torch.equal(torch.random.get_rng_state(), before)
        results.append((snapshot(network), report))
    assert changed(results[0][0], results[1][0]) == set()
    assert results[0][1] == results[1][1]
    assert "backbone.0.0.weight" in changed(results[0][0], snapshot(_train(seed=1)[0]))


def test_the_test_set_chooses_nothing() -> None:
    other = Labelled(TEST.images, (TEST.labels + 1) % CLASSES)
    assert changed(snapshot(_train()[0]), snapshot(_train(test=other)[0])) == set()


def test_an_empty_test_set_has_no_accuracy() -> None:
    _, report = _train(test=TEST.take(np.zeros(0, np.int64)))
    assert math.isnan(report.test_accuracy)
    assert 0 <= report.validation_accuracy <= 1


def test_it_learns_what_can_be_learnt() -> None:
    _, report = _train(labelled(60, 0), source__epochs=8, source__lr=0.03)
    assert report.test_accuracy > 0.8


def test_every_epoch_is_reported_to_the_caller() -> None:
    calls: list[tuple[int, int, float]] = []
    _, report = train_source(experiment(), TRAIN, TEST, CLASSES, on_epoch=lambda *call: calls.append(call))
    assert [call[:2] for call in calls] == [(1, 3), (2, 3), (3, 3)]
    assert report.validation_accuracy == max(call[2] for call in calls) == calls[report.best_epoch - 1][2]


@pytest.mark.parametrize(("n", "share"), [(0, 0.25), (1, 0.5), (2, 0.5), (4, 0.1), (4, 0.9)])
def test_too_few_images_to_split_are_refused(n: int, share: float) -> None:
    with pytest.raises(DataError, match=f"{n} source images") as caught:
        _train(labelled(n), source__validation=share)
    assert caught.value.where == "source.validation"
    assert caught.value.remedy


def test_a_loss_that_is_not_finite_is_an_error() -> None:
    with pytest.raises(MethodError, match="no longer finite") as caught:
        _train(source__lr=1e30)
    assert "source.lr" in caught.value.remedy


def _spy_loader(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Images, Preprocessing]]:
    seen: list[tuple[Images, Preprocessing]] = []

    class Spy(Loader):
        def __init__(self, images: Images, prep: Preprocessing, device: torch.device) -> None:
            seen.append((images, prep))
            super().__init__(images, prep, device)

    for module in ("socket_core.source", "socket_core.engine", "socket_core.ti_pairs", "socket_core.evaluation"):
        monkeypatch.setattr(f"{module}.Loader", Spy)
    return seen


def test_validation_images_are_never_trained_on(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = _spy_loader(monkeypatch)
    _train(source__epochs=1)
    fit, held, test = ([image.tobytes() for image in images.pixels] for images, _ in seen)
    assert (len(fit), len(held), len(test)) == (18, 6, 9)
    assert sorted(fit + held) == sorted(image.tobytes() for image in TRAIN.images.pixels)
    assert not set(fit) & set(held)


def test_training_and_adaptation_share_one_normalisation(monkeypatch: pytest.MonkeyPatch) -> None:
    # Regression: a source model trained under one normalisation and adapted under another.
    seen = _spy_loader(monkeypatch)
    values: dict[str, Any] = {"data__mean": 0.4, "data__std": 0.2}
    _train(source__epochs=1, **values)
    count = len(seen)
    adapt(tiny_network(), tiny_network(), site_data(), experiment(**values), Segment("a", 1, 1, 1, True))
    assert len(seen) == count + 3  # TR images, and both halves of the pairs
    assert {prep for _, prep in seen} == {Preprocessing((0.4,) * 3, (0.2,) * 3, 2, True)}
