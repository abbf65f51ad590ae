"""Methods with several sources: each term by hand, statistics apart, and refusals by name."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from socket_core.batchnorm import bn_layers
from socket_core.config import MethodConfig, MethodName, Weights
from socket_core.engine import adapt, make_bridge
from socket_core.ensemble import Ensemble
from socket_core.errors import MethodError
from socket_core.losses import bn_matching, information_maximisation, pseudo_label_loss
from socket_core.methods import build_method
from socket_core.methods.base import Method
from socket_core.methods.shot import Shot
from socket_core.methods.socket import TI_LOSSES, Socket
from socket_core.models import Network
from socket_core.pseudo_labels import SHOT_RECIPE, SOCKET_RECIPE, CentroidRecipe, centroid_labels, mixed_centroid_labels
from tests.core.builders import (
    LABELS,
    METHOD_NAMES,
    ONE_ROUND,
    changed,
    experiment,
    site_data,
    snapshot,
    statistics,
    ti_batch,
    tiny_network,
    tr_batch,
    tr_loader,
    two_networks,
)


def _configured(cfg: MethodConfig) -> tuple[Method, Ensemble, Ensemble]:
    method, target, source = build_method(cfg, "local"), two_networks(), two_networks()
    method.configure(target, source)
    return method, target, source


def _moments(network: Network, x: Tensor) -> tuple[list[Tensor], list[Tensor]]:
    """Batch moments of the inputs of all BatchNorm2d layers, by hooks on a network in train mode."""
    inputs: list[Tensor] = []
    for layer in network.backbone.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.register_forward_hook(lambda _m, args, _out: inputs.append(args[0].clone()))
    network.train()(x)
    return [v.mean((0, 2, 3)) for v in inputs], [v.var((0, 2, 3), correction=0) for v in inputs]


def _running(network: Network) -> tuple[list[Tensor], list[Tensor]]:
    layers = [m for m in bn_layers(network).values() if isinstance(m, nn.BatchNorm2d)]
    return [m.get_buffer("running_mean") for m in layers], [m.get_buffer("running_var") for m in layers]


@pytest.mark.parametrize("ti_loss", ["frobenius", "per_sample"])
def test_one_socket_step_by_hand(ti_loss: str) -> None:
    method, _, source = _configured(experiment(method__ti_loss=ti_loss).method)
    assert isinstance(method, Socket)
    method.check()
    method.refresh(tr_loader())
    tr, ti = tr_batch(), ti_batch(source)
    found = {name: float(value.detach()) for name, value in method.step(tr, ti).items()}
    fresh = two_networks().train()
    with torch.no_grad():
        logits = fresh(tr.x)
        own = [m.features(ti.x) for m in two_networks().train().members]
        theirs = ti.source_features[:, :8], ti.source_features[:, 8:]
        hand = {
            "im": information_maximisation(logits),
            "pl": 0.3 * pseudo_label_loss(logits, method.labels[tr.index]),
            "bn": 0.05 * _mean([bn_matching(*_moments(m, tr.x), *_running(s)) for m, s in _both(source)]),
            "ti": 5.0 * _mean([TI_LOSSES[ti_loss](a, b) for a, b in zip(theirs, own, strict=True)]),
        }
    assert found.keys() == hand.keys()
    for name, value in hand.items():
        assert found[name] == pytest.approx(float(value), rel=1e-4), name


def _both(source: Ensemble) -> list[tuple[Network, Network]]:
    return list(zip(two_networks().members, source.members, strict=True))


def _mean(values: list[Tensor]) -> Tensor:
    return sum(values, torch.zeros(())) / len(values)


def test_statistics_of_two_sources_are_not_aliased() -> None:
    # Regression: in the published code lists shared between sources end up holding the last source's.
    method, _, _ = _configured(MethodConfig(name="socket"))
    assert isinstance(method, Socket)
    networks = tiny_network(0), tiny_network(1, "tiny_wide", 6)
    aims = [distance.aims for distance in method._distances if distance is not None]
    assert len(aims) == 2
    for (means, variances), network in zip(aims, networks, strict=True):
        wanted = _running(network)
        assert len(means) == len(variances) == 5
        assert all(map(torch.equal, means, wanted[0]))
        assert all(map(torch.equal, variances, wanted[1]))
    held = [t for part in aims for tensors in part for t in tensors]
    assert len({t.data_ptr() for t in held}) == 20


def test_each_member_is_held_to_its_own_source_alone() -> None:
    method, target, _ = _configured(MethodConfig(name="socket", weights=Weights(pl=0.0, im=0.0, bn=1.0, ti=0.0)))
    before = float(method.step(tr_batch(), None)["bn"].detach())
    assert isinstance(method, Socket)
    second = method._distances[1]
    assert second is not None
    second.aims[0][0].add_(100.0)  # the means of its first layer
    term = method.step(tr_batch(), None)["bn"]
    assert float(term.detach()) > before + 100
    term.backward()
    assert target.mixing.grad is None, "no term that training could switch off by moving a weight"


def test_the_mixing_weights_learn_from_the_logits() -> None:
    network = two_networks()
    before = snapshot(network)
    adapt(network, two_networks(), site_data(), experiment(method__lr=1e-3), ONE_ROUND)
    moved = changed(before, snapshot(network))
    assert moved == {key for key in before if "classifier" not in key}
    assert "mixing" in moved


@pytest.mark.parametrize("name", METHOD_NAMES)
def test_methods_run_with_two_sources(name: MethodName) -> None:
    network, source = two_networks(), two_networks()
    before, labels = snapshot(network), LABELS if name == "oracle" else None
    job = experiment(method__name=name, method__lr=1e-3)
    bridge = make_bridge(job, source)
    adapt(network, source, site_data(), job, ONE_ROUND, bridge=bridge, labels=labels)
    assert changed(before, snapshot(source)) == set()
    moved = changed(before, snapshot(network))
    assert not any("classifier" in key for key in moved)
    if name == "adabn":
        assert moved == statistics(before)


@pytest.mark.parametrize("base", [Method, Socket])
def test_a_method_that_does_not_claim_several_sources_refuses_two_by_name(base: type[Method]) -> None:
    class Single(base):  # type: ignore[misc, valid-type]  # what it inherits from does not speak for it
        name = "single"

    method = Single(MethodConfig(), "local")
    method.configure(two_networks(), two_networks())
    with pytest.raises(MethodError, match="single knows one source, found 2") as caught:
        method.check()
    assert caught.value.where == "further_sources"
    assert caught.value.remedy


def test_a_target_of_another_number_of_networks_is_refused() -> None:
    method = build_method(MethodConfig(name="shot"), "local")
    method.configure(two_networks(), tiny_network())
    with pytest.raises(MethodError, match="2 target networks but 1 source"):
        method.check()


def test_a_member_without_batchnorm_is_refused() -> None:
    def mixed() -> Ensemble:
        plain = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        return Ensemble([tiny_network(), Network(plain, 4, 8, 3)])

    method = build_method(MethodConfig(name="socket"), "local")
    method.configure(mixed(), mixed())
    with pytest.raises(MethodError, match="L_d"):
        method.check()


# --- pseudo-labels

RECIPES = pytest.mark.parametrize("recipe", [SOCKET_RECIPE, SHOT_RECIPE], ids=["socket", "shot"])


def _set(seed: int = 0) -> tuple[list[Tensor], Tensor]:
    generator = torch.Generator().manual_seed(seed)
    spaces = [torch.randn(40, d, generator=generator) for d in (5, 3)]
    return spaces, (2 * torch.randn(40, 4, generator=generator)).softmax(1)


@RECIPES
def test_one_space_with_any_weight_gives_the_labels_of_one_network(recipe: CentroidRecipe) -> None:
    spaces, p = _set()
    alone = centroid_labels(spaces[0], p, recipe)
    assert torch.equal(mixed_centroid_labels(spaces[:1], torch.tensor([0.25]), p, recipe), alone)
    assert torch.equal(mixed_centroid_labels(spaces, torch.tensor([1.0, 0.0]), p, recipe), alone)
    assert torch.equal(mixed_centroid_labels([spaces[0]] * 2, torch.tensor([0.25, 0.75]), p, recipe), alone)


def test_distances_are_mixed_by_the_weights() -> None:
    spaces, p = _set()
    q, distance = p.double().numpy(), np.zeros((40, 4))
    for space, share in zip(spaces, (0.7, 0.3), strict=True):
        g = np.concatenate([space.double().numpy(), np.ones((40, 1))], axis=1)
        g /= np.linalg.norm(g, axis=1, keepdims=True)
        centroids = (q.T @ g) / q.sum(0)[:, None]
        distance += share * np.linalg.norm(g[:, None] - centroids[None], axis=2)
    found = mixed_centroid_labels(spaces, torch.tensor([0.7, 0.3]), p, SOCKET_RECIPE)
    assert found.tolist() == distance.argmin(1).tolist()
    assert found.tolist() != centroid_labels(spaces[0], p, SOCKET_RECIPE).tolist()


def test_shot_labels_follow_the_mixing_weights() -> None:
    labels = []
    for values in ((8.0, -8.0), (-8.0, 8.0)):
        method, target, _ = _configured(MethodConfig(name="shot"))
        assert isinstance(method, Shot)
        with torch.no_grad():
            target.mixing.copy_(torch.tensor(values))
        method.refresh(tr_loader())
        labels.append(method.labels)
    assert not torch.equal(*labels)
