"""The terms of each method's loss: one step recomputed by hand."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from socket_core.batchnorm import bn_layers, bn_mode
from socket_core.config import MethodConfig, Weights
from socket_core.methods.base import TiBatch, TrBatch
from socket_core.methods.oracle import Oracle
from socket_core.methods.shot import Shot
from socket_core.methods.socket import Socket
from socket_core.models import Network
from socket_core.pseudo_labels import SHOT_RECIPE, SOCKET_RECIPE, CentroidRecipe, centroid_labels
from tests.core.builders import (
    LABELS,
    changed,
    configured,
    experiment,
    snapshot,
    ti_batch,
    tiny_network,
    tr_batch,
    tr_loader,
)


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
    network, x = tiny_network().eval(), tr_loader().batch(np.arange(12))
    with torch.no_grad():
        return centroid_labels(network.features(x), network(x).softmax(1), recipe)


@pytest.mark.parametrize("ti_loss", ["frobenius", "per_sample"])
def test_one_socket_step_by_hand(ti_loss: str) -> None:
    weights = {"pl": 0.3, "im": 1.0, "bn": 0.5, "ti": 0.5}
    cfg = experiment(method__ti_loss=ti_loss, method__weights=weights).method
    method, _, source = configured(cfg)
    assert isinstance(method, Socket)
    tr, ti = tr_batch(), ti_batch(source)
    method.refresh(tr_loader())
    assert torch.equal(method.labels, _expected_labels(SOCKET_RECIPE))
    terms = {name: value.detach() for name, value in method.step(tr, ti).items()}
    hand = {k: v.detach() for k, v in _by_hand(source, method.labels, tr, ti, ti_loss).items()}
    assert terms.keys() == weights.keys()
    for name, value in hand.items():
        assert float(terms[name]) == pytest.approx(weights[name] * float(value), rel=1e-4), name
    total = 0.3 * hand["pl"] + 1.0 * hand["im"] + 0.5 * hand["bn"] + 0.5 * hand["ti"]
    assert float(sum(terms.values())) == pytest.approx(float(total), rel=1e-4)


def test_one_shot_step_by_hand() -> None:
    method, _, source = configured(MethodConfig(name="shot"))
    assert isinstance(method, Shot)
    tr = tr_batch()
    method.refresh(tr_loader())
    assert torch.equal(method.labels, _expected_labels(SHOT_RECIPE))
    terms = {name: value.detach() for name, value in method.step(tr, None).items()}
    hand = _by_hand(source, method.labels, tr, ti_batch(source), "per_sample")
    assert terms.keys() == {"pl", "im"}
    assert float(terms["pl"]) == pytest.approx(0.3 * float(hand["pl"].detach()), rel=1e-4)
    assert float(terms["im"]) == pytest.approx(1.0 * float(hand["im"].detach()), rel=1e-4)


def test_one_oracle_step_by_hand() -> None:
    method, _, _ = configured(MethodConfig(name="oracle"))
    assert isinstance(method, Oracle)
    method.labels = torch.as_tensor(LABELS)
    tr = tr_batch()
    log_p = tiny_network().train()(tr.x).log_softmax(1).detach()
    own = log_p[torch.arange(len(log_p)), method.labels[tr.index]]
    value = method.step(tr, None)["ce"].detach()
    assert float(value) == pytest.approx(-float((0.9 * own + 0.1 * log_p.mean(1)).mean()), rel=1e-5)


@pytest.mark.parametrize("recipe", ["socket", "shot"])
def test_the_recipe_of_pseudo_labels_can_be_chosen(recipe: str) -> None:
    expected = _expected_labels({"socket": SOCKET_RECIPE, "shot": SHOT_RECIPE}[recipe])
    for name in ("socket", "shot"):
        method, _, _ = configured(experiment(method__name=name, method__pseudo_labels=recipe).method)
        assert isinstance(method, Shot)
        method.refresh(tr_loader())
        assert torch.equal(method.labels, expected)


def test_the_set_used_here_tells_the_recipes_apart() -> None:
    labels = [_expected_labels(recipe) for recipe in (SOCKET_RECIPE, SHOT_RECIPE)]
    assert not torch.equal(*labels)
    assert all(len(v.unique()) > 1 for v in labels)


ALL_TERMS = ("pl", "im", "bn", "ti")


@pytest.mark.parametrize("on", [c for n in range(1, 5) for c in combinations(ALL_TERMS, n)], ids="-".join)
def test_a_weight_of_zero_switches_its_term_off(on: tuple[str, ...]) -> None:
    weights = Weights(**{name: 2.0 if name in on else 0.0 for name in ALL_TERMS})
    method, _, source = configured(MethodConfig(name="socket", weights=weights))
    method.check()
    method.refresh(tr_loader())
    terms = method.step(tr_batch(), ti_batch(source))
    assert terms.keys() == set(on)
    full, _, _ = configured(MethodConfig(name="socket", weights=Weights(pl=2.0, im=2.0, bn=2.0, ti=2.0)))
    full.refresh(tr_loader())
    other = full.step(tr_batch(), ti_batch(source))
    assert all(torch.equal(value, other[name]) for name, value in terms.items())


def test_moment_matching_has_no_gate_and_its_aim_is_constant() -> None:
    method, target, source = configured(MethodConfig(name="socket", weights=Weights(pl=0.0, im=0.0, bn=1.0, ti=0.0)))
    assert isinstance(method, Socket)
    [distance] = method._distances
    assert distance is not None
    aims = [*distance.aims[0], *distance.aims[1]]
    kept = [a.clone() for a in aims]
    assert not any(a.requires_grad for a in aims)
    own = [value for key, value in vars(method).items() if key not in ("target", "source")]
    assert not any(isinstance(value, nn.Parameter | nn.Module) for value in own)
    for _ in range(3):  # with momentum 0.1 the target's statistics have moved by then
        term = method.step(tr_batch(), None)["bn"]
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
        [distance] = method._distances
        assert distance is not None
        means, variances = distance.aims
        assert len(means) == len(variances) == len(layers) == 5
        for layer, mean, var in zip(layers, means, variances, strict=True):
            assert layer.running_mean is not None
            assert layer.running_var is not None
            assert torch.equal(mean, layer.running_mean)
            assert torch.equal(var, layer.running_var)


def test_pseudo_labels_are_made_in_eval_mode_and_leave_statistics_alone() -> None:
    method, target, _ = configured(MethodConfig(name="shot"))
    before = snapshot(target)
    with bn_mode(target, "update"):  # whatever was set outside
        method.refresh(tr_loader())
    assert isinstance(method, Shot)
    assert torch.equal(method.labels, _expected_labels(SHOT_RECIPE))
    assert changed(before, snapshot(target)) == set()
