"""What each method refuses: weights, policies, networks, labels and data that do not fit it."""

from __future__ import annotations

import copy

import numpy as np
import pytest
from torch import nn

from socket_core.config import MethodConfig, MethodName, Weights
from socket_core.engine import adapt, make_bridge
from socket_core.errors import MethodError
from socket_core.methods import build_method
from socket_core.models import Network
from tests.core.builders import (
    CLASSES,
    LABELS,
    METHOD_NAMES,
    ONE_ROUND,
    adapt_by,
    adapt_tiny,
    bridge_for,
    changed,
    configured,
    experiment,
    site_data,
    snapshot,
    tiny_network,
    tr_batch,
)


@pytest.mark.parametrize("name", ["shot", "socket"])
def test_all_weights_zero_are_refused(name: MethodName) -> None:
    method, _, _ = configured(MethodConfig(name=name, weights=Weights(pl=0.0, im=0.0, bn=0.0, ti=0.0)))
    with pytest.raises(MethodError, match="weight 0") as caught:
        method.check()
    assert caught.value.where == "method.weights"
    assert caught.value.remedy


def test_weights_that_shot_does_not_use_do_not_count() -> None:
    method, _, _ = configured(MethodConfig(name="shot", weights=Weights(pl=0.0, im=0.0, bn=1.0, ti=1.0)))
    with pytest.raises(MethodError, match="weight 0"):
        method.check()


def test_adabn_is_refused_where_statistics_are_frozen() -> None:
    before = snapshot(tiny_network())
    network = tiny_network()
    with pytest.raises(MethodError, match="freezes") as caught:
        adapt_by("adabn", "source", network=network)
    assert caught.value.where == "federation.bn_policy"
    assert changed(before, snapshot(network)) == set()


@pytest.mark.parametrize("name", METHOD_NAMES)
def test_a_trainable_classifier_is_refused(name: MethodName) -> None:
    method, target, _ = configured(MethodConfig(name=name))
    target.classifier.requires_grad_(True)
    with pytest.raises(MethodError, match="classifier must stay frozen"):
        method.check()


@pytest.mark.parametrize("name", METHOD_NAMES)
def test_a_trainable_source_is_refused(name: MethodName) -> None:
    method, _, source = configured(MethodConfig(name=name))
    source.requires_grad_(True)
    with pytest.raises(MethodError, match="source network must stay frozen"):
        method.check()


@pytest.mark.parametrize("name", METHOD_NAMES)
def test_a_network_without_batchnorm_is_refused(name: MethodName) -> None:
    plain = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    target = Network(plain, 4, 8, CLASSES)
    target.bottleneck = nn.Sequential(nn.Linear(4, 8))
    method = build_method(MethodConfig(name=name), "local")
    method.configure(target, copy.deepcopy(target), bridge_for(MethodConfig(name=name), target))
    with pytest.raises(MethodError, match="no BatchNorm layer") as caught:
        method.check()
    assert caught.value.remedy


def test_moment_matching_needs_batchnorm_in_the_backbone() -> None:
    plain = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    target = Network(plain, 4, 8, CLASSES)  # the bottleneck still has one
    for weights, legal in ((Weights(), False), (Weights(bn=0.0), True)):
        method = build_method(MethodConfig(name="socket", weights=weights), "local")
        method.configure(target, copy.deepcopy(target))
        if legal:
            method.check()
        else:
            with pytest.raises(MethodError, match="L_d") as caught:
                method.check()
            assert caught.value.where == "method.weights.bn"


@pytest.mark.parametrize("name", METHOD_NAMES)
def test_labels_are_for_the_oracle_and_only_for_it(name: MethodName) -> None:
    network = tiny_network()
    before = snapshot(network)
    labels = None if name == "oracle" else LABELS
    job = experiment(method__name=name)
    bridge = make_bridge(job, tiny_network())
    with pytest.raises(MethodError, match="oracle"):
        adapt(network, tiny_network(), site_data(), job, ONE_ROUND, bridge=bridge, labels=labels)
    assert changed(before, snapshot(network)) == set()


@pytest.mark.parametrize("count", [0, 11, 13])
def test_labels_that_do_not_fit_the_images_are_refused(count: int) -> None:
    with pytest.raises(MethodError, match=f"12 task-relevant images but {count} labels"):
        adapt(
            tiny_network(),
            tiny_network(),
            site_data(),
            experiment(method__name="oracle"),
            ONE_ROUND,
            labels=np.zeros(count, np.int64),
        )


@pytest.mark.parametrize("pairs", [0, 1])
def test_socket_without_pairs_is_refused(pairs: int) -> None:
    network = tiny_network()
    before = snapshot(network)
    with pytest.raises(MethodError, match=f"found {pairs}") as caught:
        adapt_by("socket", network=network, data=site_data(pairs=pairs))
    assert "shot" in caught.value.remedy
    assert changed(before, snapshot(network)) == set()


@pytest.mark.parametrize("name", ["unadapted", "adabn", "shot"])
def test_methods_without_pairs_run_without_pairs(name: str) -> None:
    adapt_by(name, data=site_data(pairs=0))


@pytest.mark.parametrize("name", [n for n in METHOD_NAMES if n != "oracle"])
@pytest.mark.parametrize("n", [0, 1])
def test_fewer_than_two_images_are_refused(name: str, n: int) -> None:
    with pytest.raises(MethodError, match=f"at least 2 task-relevant images .* found {n}") as caught:
        adapt_by(name, data=site_data(n))
    assert caught.value.remedy


def test_a_method_that_does_not_train_has_no_step() -> None:
    method, _, _ = configured(MethodConfig(name="adabn"))
    with pytest.raises(MethodError, match="does not train"):
        method.step(tr_batch(), None)


def test_socket_with_the_ti_term_off_runs_without_pairs() -> None:
    _, report = adapt_tiny(data=site_data(pairs=0), method__name="socket", method__weights__ti=0.0)
    assert set(report.losses) == {"im", "pl", "bn"}
