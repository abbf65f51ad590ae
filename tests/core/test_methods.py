"""What each method may change, and what it leaves alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from socket_core.batchnorm import bn_layers
from socket_core.config import BnPolicy, MethodConfig, MethodName
from socket_core.data.loader import Loader
from socket_core.engine import AdaptReport, adapt, make_bridge
from socket_core.methods import METHODS
from socket_core.optimiser import NesterovSgd
from tests.core.builders import (
    CPU,
    METHOD_NAMES,
    ONE_ROUND,
    POLICIES,
    PREP,
    PUBLISHED,
    adapt_by,
    changed,
    configured,
    experiment,
    site_data,
    snapshot,
    statistics,
    ti_batch,
    tiny_network,
    tr_batch,
    tr_loader,
)

TRAINING: tuple[MethodName, ...] = ("shot", "socket", "tgkt", "oracle")
SMALL_STEPS = {**PUBLISHED, "method__transfer": {"ti": 0.5}}


def test_every_configurable_method_exists() -> None:
    assert tuple(METHODS) == METHOD_NAMES


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("name", TRAINING)
def test_training_moves_backbone_and_bottleneck_but_never_the_classifier(name: str, policy: BnPolicy) -> None:
    before = snapshot(tiny_network())
    network, report = adapt_by(name, policy, **SMALL_STEPS)
    moved = changed(before, snapshot(network))
    free = {k for k in before if not k.startswith("classifier")}
    assert moved == (free - statistics(free) if policy == "source" else free)
    assert report.steps == 3
    assert all(np.isfinite(v) for v in report.losses.values())


@pytest.mark.parametrize("name", [n for n in METHOD_NAMES if n != "oracle"])
def test_the_source_keeps_every_bit(name: str) -> None:
    source = tiny_network(1).train()
    before = snapshot(source)
    job = experiment(method__name=name)
    adapt(tiny_network(1), source, site_data(), job, ONE_ROUND, bridge=make_bridge(job, source))
    assert changed(before, snapshot(source)) == set()
    assert not any(p.requires_grad for p in source.parameters())


def test_unadapted_changes_nothing() -> None:
    before = snapshot(tiny_network())
    for policy in POLICIES:
        network, report = adapt_by("unadapted", policy)
        assert changed(before, snapshot(network)) == set()
        assert report == AdaptReport()


@pytest.mark.parametrize("policy", ["local", "pooled"])
def test_adabn_changes_statistics_only(policy: str) -> None:
    before = snapshot(tiny_network())
    network, report = adapt_by("adabn", policy)
    assert changed(before, snapshot(network)) == statistics(before)
    assert report.steps == 0


def test_adabn_takes_the_moments_of_the_data() -> None:
    network, _ = adapt_by("adabn")
    data = Loader(site_data().tr, PREP, CPU)
    with torch.no_grad():
        inputs = network.get_submodule("backbone.0.0")(data.batch(np.arange(12)))
    values = inputs.double().transpose(0, 1).flatten(1).numpy()
    first = next(iter(bn_layers(network).values()))
    assert first.running_mean is not None
    assert first.running_var is not None
    np.testing.assert_allclose(first.running_mean, values.mean(1), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(first.running_var, values.var(1, ddof=1), rtol=1e-4)  # unbiased, as BatchNorm keeps it
    assert first.momentum == 0.1


def test_adabn_does_not_depend_on_the_statistics_before() -> None:
    one, two = tiny_network(), tiny_network()
    for layer in bn_layers(two).values():
        assert layer.running_mean is not None
        layer.running_mean.fill_(100.0)
    results = [snapshot(adapt_by("adabn", network=n)[0]) for n in (one, two)]
    assert changed(*results) == set()


@pytest.mark.parametrize("name", TRAINING)
def test_only_backbone_and_bottleneck_can_learn(name: MethodName) -> None:
    _, target, _ = configured(MethodConfig(name=name))
    learning = {key for key, p in target.named_parameters() if p.requires_grad}
    parts = (("backbone", target.backbone), ("bottleneck", target.bottleneck))
    assert learning == {f"{part}.{key}" for part, module in parts for key, _ in module.named_parameters()}
    before = snapshot(target)
    optimiser = NesterovSgd(target, lr=1.0, backbone_lr_scale=0.1, momentum=0.9, weight_decay=0.0)
    for p in target.parameters():
        p.grad = torch.ones_like(p)
    optimiser.step(1.0)
    assert changed(before, snapshot(target)) == learning


@pytest.mark.parametrize("name", ["unadapted", "adabn"])
def test_nothing_can_learn_without_training(name: MethodName) -> None:
    _, target, _ = configured(MethodConfig(name=name))
    assert not any(p.requires_grad for p in target.parameters())


@pytest.mark.parametrize("policy", POLICIES)
def test_ti_images_never_reach_the_running_statistics(policy: BnPolicy) -> None:
    results = []
    for with_ti in (False, True):
        method, target, source = configured(MethodConfig(name="socket"), policy)
        method.refresh(tr_loader())
        terms = method.step(tr_batch(), ti_batch(source) if with_ti else None)
        assert ("ti" in terms) == with_ti
        results.append(snapshot(target))
    assert changed(*results) == set()
    moved = changed(snapshot(tiny_network()), results[1])
    assert moved == (set() if policy == "source" else statistics(moved))


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("wanted", [True, False])
def test_training_starts_from_adabn_where_it_may(policy: BnPolicy, wanted: bool) -> None:
    method, target, _ = configured(MethodConfig(name="shot", start_from_adabn=wanted), policy)
    before = snapshot(target)
    method.start(tr_loader())
    expected = statistics(before) if wanted and policy != "source" else set()
    assert changed(before, snapshot(target)) == expected
