"""What each method may change, what it refuses, and the loss of one step recomputed by hand."""

from __future__ import annotations

import copy
from itertools import combinations
from typing import get_args

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from socket_core.batchnorm import bn_layers, bn_mode
from socket_core.config import BnPolicy, MethodConfig, MethodName, Weights
from socket_core.data.loader import Loader, Preprocessing
from socket_core.data.types import SiteData
from socket_core.engine import AdaptReport, Segment, adapt
from socket_core.errors import MethodError
from socket_core.methods import METHODS, Method, build_method
from socket_core.methods.base import TiBatch, TrBatch
from socket_core.methods.oracle import Oracle
from socket_core.methods.shot import Shot
from socket_core.methods.socket import Socket
from socket_core.models import Network
from socket_core.optimiser import NesterovSgd
from socket_core.pseudo_labels import SHOT_RECIPE, SOCKET_RECIPE, CentroidRecipe, centroid_labels
from tests.core.builders import (
    CLASSES,
    changed,
    depth_images,
    experiment,
    rgb_images,
    site_data,
    snapshot,
    statistics,
    tiny_network,
)

CPU = torch.device("cpu")
PREP = Preprocessing.of(experiment().data)
POLICIES: tuple[BnPolicy, ...] = get_args(BnPolicy)
NAMES: tuple[MethodName, ...] = get_args(MethodName)
TRAINING: tuple[MethodName, ...] = ("shot", "socket", "oracle")
LABELS = np.arange(12) % CLASSES
ONE_ROUND = Segment("site-00", round=1, steps=3, rounds=1, fresh=True)


def _adapt(
    name: str, policy: str = "local", *, network: Network | None = None, data: SiteData | None = None
) -> tuple[Network, AdaptReport]:
    network = network or tiny_network()
    labels = LABELS if name == "oracle" else None
    job = experiment(method__name=name, federation__bn_policy=policy)
    return network, adapt(network, tiny_network(), data or site_data(), job, ONE_ROUND, labels=labels)


def _configured(cfg: MethodConfig, policy: BnPolicy = "local") -> tuple[Method, Network, Network]:
    method, target, source = build_method(cfg, policy), tiny_network(), tiny_network()
    method.configure(target, source)
    return method, target, source


def _tr() -> Loader:
    return Loader(depth_images(12), PREP, CPU)


def _tr_batch() -> TrBatch:
    index = np.array([7, 0, 3, 9, 1])
    return TrBatch(_tr().batch(index), torch.as_tensor(index))


def _ti_batch(source: Network) -> TiBatch:
    with torch.no_grad():
        features = source.features(Loader(rgb_images(4, 5), PREP, CPU).batch(np.arange(4)))
    return TiBatch(Loader(depth_images(4, 6), PREP, CPU).batch(np.arange(4)), features)


# --- what changes -----------------------------------------------------------------------------------


def test_every_configurable_method_exists() -> None:
    assert tuple(METHODS) == NAMES


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("name", TRAINING)
def test_training_moves_backbone_and_bottleneck_but_never_the_classifier(name: str, policy: BnPolicy) -> None:
    before = snapshot(tiny_network())
    network, report = _adapt(name, policy)
    moved = changed(before, snapshot(network))
    free = {k for k in before if not k.startswith("classifier")}
    assert moved == (free - statistics(free) if policy == "source" else free)
    assert report.steps == 3
    assert all(np.isfinite(v) for v in report.losses.values())


@pytest.mark.parametrize("name", [n for n in NAMES if n != "oracle"])
def test_the_source_keeps_every_bit(name: str) -> None:
    source = tiny_network(1).train()
    before = snapshot(source)
    adapt(tiny_network(1), source, site_data(), experiment(method__name=name), ONE_ROUND)
    assert changed(before, snapshot(source)) == set()
    assert not any(p.requires_grad for p in source.parameters())


def test_unadapted_changes_nothing() -> None:
    before = snapshot(tiny_network())
    for policy in POLICIES:
        network, report = _adapt("unadapted", policy)
        assert changed(before, snapshot(network)) == set()
        assert report == AdaptReport()


@pytest.mark.parametrize("policy", ["local", "pooled"])
def test_adabn_changes_statistics_only(policy: str) -> None:
    before = snapshot(tiny_network())
    network, report = _adapt("adabn", policy)
    assert changed(before, snapshot(network)) == statistics(before)
    assert report.steps == 0


def test_adabn_takes_the_moments_of_the_data() -> None:
    network, _ = _adapt("adabn")
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
    results = [snapshot(_adapt("adabn", network=n)[0]) for n in (one, two)]
    assert changed(*results) == set()


@pytest.mark.parametrize("name", TRAINING)
def test_only_backbone_and_bottleneck_can_learn(name: MethodName) -> None:
    _, target, _ = _configured(MethodConfig(name=name))
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
    _, target, _ = _configured(MethodConfig(name=name))
    assert not any(p.requires_grad for p in target.parameters())


@pytest.mark.parametrize("policy", POLICIES)
def test_ti_images_never_reach_the_running_statistics(policy: BnPolicy) -> None:
    results = []
    for with_ti in (False, True):
        method, target, source = _configured(MethodConfig(name="socket"), policy)
        method.refresh(_tr())
        terms = method.step(_tr_batch(), _ti_batch(source) if with_ti else None)
        assert ("ti" in terms) == with_ti
        results.append(snapshot(target))
    assert changed(*results) == set()
    moved = changed(snapshot(tiny_network()), results[1])
    assert moved == (set() if policy == "source" else statistics(moved))


# --- refusals ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["shot", "socket"])
def test_all_weights_zero_are_refused(name: MethodName) -> None:
    method, _, _ = _configured(MethodConfig(name=name, weights=Weights(pl=0.0, im=0.0, bn=0.0, ti=0.0)))
    with pytest.raises(MethodError, match="weight 0") as caught:
        method.check()
    assert caught.value.where == "method.weights"
    assert caught.value.remedy


def test_weights_that_shot_does_not_use_do_not_count() -> None:
    method, _, _ = _configured(MethodConfig(name="shot", weights=Weights(pl=0.0, im=0.0, bn=1.0, ti=1.0)))
    with pytest.raises(MethodError, match="weight 0"):
        method.check()


def test_adabn_is_refused_where_statistics_are_frozen() -> None:
    before = snapshot(tiny_network())
    network = tiny_network()
    with pytest.raises(MethodError, match="freezes") as caught:
        _adapt("adabn", "source", network=network)
    assert caught.value.where == "federation.bn_policy"
    assert changed(before, snapshot(network)) == set()


@pytest.mark.parametrize("name", NAMES)
def test_a_trainable_classifier_is_refused(name: MethodName) -> None:
    method, target, _ = _configured(MethodConfig(name=name))
    target.classifier.requires_grad_(True)
    with pytest.raises(MethodError, match="classifier must stay frozen"):
        method.check()


@pytest.mark.parametrize("name", NAMES)
def test_a_trainable_source_is_refused(name: MethodName) -> None:
    method, _, source = _configured(MethodConfig(name=name))
    source.requires_grad_(True)
    with pytest.raises(MethodError, match="source network must stay frozen"):
        method.check()


@pytest.mark.parametrize("name", NAMES)
def test_a_network_without_batchnorm_is_refused(name: MethodName) -> None:
    plain = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    target = Network(plain, 4, 8, CLASSES)
    target.bottleneck = nn.Sequential(nn.Linear(4, 8))
    method = build_method(MethodConfig(name=name), "local")
    method.configure(target, copy.deepcopy(target))
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


@pytest.mark.parametrize("name", NAMES)
def test_labels_are_for_the_oracle_and_only_for_it(name: MethodName) -> None:
    network = tiny_network()
    before = snapshot(network)
    labels = None if name == "oracle" else LABELS
    with pytest.raises(MethodError, match="oracle"):
        adapt(network, tiny_network(), site_data(), experiment(method__name=name), ONE_ROUND, labels=labels)
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
        _adapt("socket", network=network, data=site_data(pairs=pairs))
    assert "shot" in caught.value.remedy
    assert changed(before, snapshot(network)) == set()


@pytest.mark.parametrize("name", ["unadapted", "adabn", "shot"])
def test_methods_without_pairs_run_without_pairs(name: str) -> None:
    _adapt(name, data=site_data(pairs=0))


@pytest.mark.parametrize("name", [n for n in NAMES if n != "oracle"])
@pytest.mark.parametrize("n", [0, 1])
def test_fewer_than_two_images_are_refused(name: str, n: int) -> None:
    with pytest.raises(MethodError, match=f"at least 2 task-relevant images .* found {n}") as caught:
        _adapt(name, data=site_data(n))
    assert caught.value.remedy


def test_a_method_that_does_not_train_has_no_step() -> None:
    method, _, _ = _configured(MethodConfig(name="adabn"))
    with pytest.raises(MethodError, match="does not train"):
        method.step(_tr_batch(), None)


# --- the loss of one step ---------------------------------------------------------------------------


def _entropy(p: Tensor) -> Tensor:
    return -(p * p.clamp_min(1e-30).log()).sum(-1)


def _by_hand(source: Network, labels: Tensor, tr: TrBatch, ti: TiBatch, ti_loss: str) -> dict[str, Tensor]:
    """The four unweighted terms, from plain forward passes of a copy in train mode."""
    network = tiny_network().train()
    recorded: list[Tensor] = []
    layers = [m for m in network.backbone.modules() if isinstance(m, nn.BatchNorm2d)]
    for layer in layers:
        layer.register_forward_hook(lambda _m, args, _out: recorded.append(args[0].clone()))
    p = network(tr.x).softmax(1)
    inputs = recorded[: len(layers)]  # the TI images go through the same hooks
    features = network.features(ti.x)
    distance = torch.zeros(())
    frozen = [m for m in source.backbone.modules() if isinstance(m, nn.BatchNorm2d)]
    for i, (x, layer) in enumerate(zip(inputs, frozen, strict=True)):
        assert layer.running_mean is not None
        assert layer.running_var is not None
        mean = x.mean((0, 2, 3))
        var = ((x - mean[:, None, None]) ** 2).mean((0, 2, 3))
        distance += (10 if i == 0 else 1) * ((mean - layer.running_mean).norm() + (var - layer.running_var).norm())
    squares = (features - ti.source_features) ** 2
    return {
        "pl": -p[torch.arange(len(p)), labels[tr.index]].log().mean(),
        "im": _entropy(p).mean() - _entropy(p.mean(0)),
        "bn": distance,
        "ti": squares.sum().sqrt() if ti_loss == "frobenius" else squares.mean(),
    }


def _expected_labels(recipe: CentroidRecipe) -> Tensor:
    network, x = tiny_network().eval(), _tr().batch(np.arange(12))
    with torch.no_grad():
        return centroid_labels(network.features(x), network(x).softmax(1), recipe)


@pytest.mark.parametrize("ti_loss", ["frobenius", "per_sample"])
def test_one_socket_step_by_hand(ti_loss: str) -> None:
    cfg = experiment(method__ti_loss=ti_loss).method
    method, _, source = _configured(cfg)
    assert isinstance(method, Socket)
    tr, ti = _tr_batch(), _ti_batch(source)
    method.refresh(_tr())
    assert torch.equal(method.labels, _expected_labels(SOCKET_RECIPE))
    terms = {name: value.detach() for name, value in method.step(tr, ti).items()}
    hand = {k: v.detach() for k, v in _by_hand(source, method.labels, tr, ti, ti_loss).items()}
    weights = {"pl": 0.3, "im": 1.0, "bn": 0.5, "ti": 0.5}
    assert terms.keys() == weights.keys()
    for name, value in hand.items():
        assert float(terms[name]) == pytest.approx(weights[name] * float(value), rel=1e-4), name
    total = 0.3 * hand["pl"] + 1.0 * hand["im"] + 0.5 * hand["bn"] + 0.5 * hand["ti"]
    assert float(sum(terms.values())) == pytest.approx(float(total), rel=1e-4)


def test_one_shot_step_by_hand() -> None:
    method, _, source = _configured(MethodConfig(name="shot"))
    assert isinstance(method, Shot)
    tr = _tr_batch()
    method.refresh(_tr())
    assert torch.equal(method.labels, _expected_labels(SHOT_RECIPE))
    terms = {name: value.detach() for name, value in method.step(tr, None).items()}
    hand = _by_hand(source, method.labels, tr, _ti_batch(source), "per_sample")
    assert terms.keys() == {"pl", "im"}
    assert float(terms["pl"]) == pytest.approx(0.3 * float(hand["pl"].detach()), rel=1e-4)
    assert float(terms["im"]) == pytest.approx(1.0 * float(hand["im"].detach()), rel=1e-4)


def test_one_oracle_step_by_hand() -> None:
    method, _, _ = _configured(MethodConfig(name="oracle"))
    assert isinstance(method, Oracle)
    method.labels = torch.as_tensor(LABELS)
    tr = _tr_batch()
    log_p = tiny_network().train()(tr.x).log_softmax(1).detach()
    own = log_p[torch.arange(len(log_p)), method.labels[tr.index]]
    value = method.step(tr, None)["ce"].detach()
    assert float(value) == pytest.approx(-float((0.9 * own + 0.1 * log_p.mean(1)).mean()), rel=1e-5)


@pytest.mark.parametrize("recipe", ["socket", "shot"])
def test_the_recipe_of_pseudo_labels_can_be_chosen(recipe: str) -> None:
    expected = _expected_labels({"socket": SOCKET_RECIPE, "shot": SHOT_RECIPE}[recipe])
    for name in ("socket", "shot"):
        method, _, _ = _configured(experiment(method__name=name, method__pseudo_labels=recipe).method)
        assert isinstance(method, Shot)
        method.refresh(_tr())
        assert torch.equal(method.labels, expected)


def test_the_set_used_here_tells_the_recipes_apart() -> None:
    labels = [_expected_labels(recipe) for recipe in (SOCKET_RECIPE, SHOT_RECIPE)]
    assert not torch.equal(*labels)
    assert all(len(v.unique()) > 1 for v in labels)


ALL_TERMS = ("pl", "im", "bn", "ti")


@pytest.mark.parametrize("on", [c for n in range(1, 5) for c in combinations(ALL_TERMS, n)], ids="-".join)
def test_a_weight_of_zero_switches_its_term_off(on: tuple[str, ...]) -> None:
    weights = Weights(**{name: 2.0 if name in on else 0.0 for name in ALL_TERMS})
    method, _, source = _configured(MethodConfig(name="socket", weights=weights))
    method.check()
    method.refresh(_tr())
    terms = method.step(_tr_batch(), _ti_batch(source))
    assert terms.keys() == set(on)
    full, _, _ = _configured(MethodConfig(name="socket", weights=Weights(pl=2.0, im=2.0, bn=2.0, ti=2.0)))
    full.refresh(_tr())
    other = full.step(_tr_batch(), _ti_batch(source))
    assert all(torch.equal(value, other[name]) for name, value in terms.items())


def test_moment_matching_has_no_gate_and_its_aim_is_constant() -> None:
    method, target, source = _configured(MethodConfig(name="socket", weights=Weights(pl=0.0, im=0.0, bn=1.0, ti=0.0)))
    assert isinstance(method, Socket)
    aims = [*method._source_means, *method._source_vars]
    kept = [a.clone() for a in aims]
    assert not any(a.requires_grad for a in aims)
    own = [value for key, value in vars(method).items() if key not in ("target", "source")]
    assert not any(isinstance(value, nn.Parameter | nn.Module) for value in own)
    for _ in range(3):  # with momentum 0.1 the target's statistics have moved by then
        term = method.step(_tr_batch(), None)["bn"]
        term.backward()
    assert all(map(torch.equal, aims, kept))
    reached = {name for name, p in target.named_parameters() if p.grad is not None}
    assert reached
    assert all(name.startswith("backbone") for name in reached)
    assert all(p.grad is None for p in source.parameters())


def test_two_sources_keep_their_own_statistics() -> None:
    # Regression: lists of statistics shared between sources would end up holding the last source's.
    methods = []
    for seed in (1, 2):
        method = Socket(MethodConfig(name="socket"), "local")
        method.configure(tiny_network(), tiny_network(seed))
        methods.append(method)
    for seed, method in zip((1, 2), methods, strict=True):
        layers = [m for m in bn_layers(tiny_network(seed)).values() if isinstance(m, nn.BatchNorm2d)]
        assert len(method._source_means) == len(method._source_vars) == len(layers) == 5
        for layer, mean, var in zip(layers, method._source_means, method._source_vars, strict=True):
            assert layer.running_mean is not None
            assert layer.running_var is not None
            assert torch.equal(mean, layer.running_mean)
            assert torch.equal(var, layer.running_var)


def test_pseudo_labels_are_made_in_eval_mode_and_leave_statistics_alone() -> None:
    method, target, _ = _configured(MethodConfig(name="shot"))
    before = snapshot(target)
    with bn_mode(target, "update"):  # whatever was set outside
        method.refresh(_tr())
    assert isinstance(method, Shot)
    assert torch.equal(method.labels, _expected_labels(SHOT_RECIPE))
    assert changed(before, snapshot(target)) == set()


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("wanted", [True, False])
def test_training_starts_from_adabn_where_it_may(policy: BnPolicy, wanted: bool) -> None:
    method, target, _ = _configured(MethodConfig(name="shot", start_from_adabn=wanted), policy)
    before = snapshot(target)
    method.start(_tr())
    expected = statistics(before) if wanted and policy != "source" else set()
    assert changed(before, snapshot(target)) == expected
