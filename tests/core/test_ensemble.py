"""Several networks as one: logits are mixed by weights that training can move, and all else stays apart."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from socket_core.batchnorm import bn_layers
from socket_core.ensemble import Ensemble
from socket_core.errors import MethodError
from socket_core.exchange import batchnorm_specs, flatten, load_flat, parameters_of, travelling_specs
from socket_core.models import build_network
from socket_core.optimiser import NesterovSgd
from tests.core.builders import CLASSES, POLICIES, changed, normal_batch, snapshot, tiny_network, two_networks


def test_logits_are_mixed_by_normalised_sigmoids() -> None:
    ensemble, x = two_networks().eval(), normal_batch()
    with torch.no_grad():
        ensemble.mixing.copy_(torch.tensor([1.5, -0.5]))
        found = ensemble(x).numpy()
        each = [network(x).numpy() for network in (tiny_network(0).eval(), tiny_network(1, "tiny_wide", 6).eval())]
    one, other = (1 / (1 + np.exp(-v)) for v in (1.5, -0.5))
    np.testing.assert_allclose(found, (one * each[0] + other * each[1]) / (one + other), rtol=1e-5, atol=1e-6)


def test_at_first_all_sources_weigh_alike() -> None:
    ensemble = Ensemble([tiny_network(seed) for seed in range(3)])
    assert torch.allclose(ensemble.weights, torch.full((3,), 1 / 3))


@pytest.mark.parametrize("values", [(0.0, 0.0), (9.0, -9.0), (-300.0, -300.0), (200.0, -50.0)])
def test_weights_are_positive_and_sum_to_one(values: tuple[float, float]) -> None:
    ensemble = two_networks()
    with torch.no_grad():
        ensemble.mixing.copy_(torch.tensor(values))
    assert float(ensemble.weights.detach().sum()) == pytest.approx(1.0)
    assert bool((ensemble.weights >= 0).all())


def test_a_network_alone_has_weight_one_and_is_its_own_member() -> None:
    network = tiny_network()
    assert list(network.members) == [network]
    assert network.weights.tolist() == [1.0]


def test_features_stand_side_by_side_and_come_apart_again() -> None:
    ensemble, x = two_networks().eval(), normal_batch()
    with torch.no_grad():
        parts = ensemble.split(ensemble.features(x))
        assert [tuple(p.shape) for p in parts] == [(4, 8), (4, 6)]
        assert all(torch.equal(p, m.features(x)) for p, m in zip(parts, ensemble.members, strict=True))


def test_gradients_reach_the_mixing_weights_and_no_other_networks_features() -> None:
    ensemble = two_networks().train()
    ensemble(normal_batch())[:, 0].sum().backward()
    assert ensemble.mixing.grad is not None
    assert float(ensemble.mixing.grad.abs().min()) > 0
    assert float(ensemble.mixing.grad.sum()) == pytest.approx(0.0, abs=1e-5)  # what one gains the other loses


def test_batchnorm_layers_of_all_members_are_found() -> None:
    ensemble = two_networks()
    assert len(bn_layers(ensemble)) == sum(len(bn_layers(m)) for m in ensemble.members) == 12


@pytest.mark.parametrize("policy", POLICIES)
def test_the_mixing_travels_and_no_classifier_does(policy: str) -> None:
    ensemble = two_networks()
    keys = {key for key, _ in travelling_specs(ensemble, policy)}  # type: ignore[arg-type]
    assert "mixing" in keys
    assert not any("classifier" in key for key in keys)
    for index in range(2):
        assert f"networks.{index}.backbone.0.0.weight" in keys
        assert (f"networks.{index}.backbone.0.1.weight" in keys) == (policy != "local")
    assert len(batchnorm_specs(ensemble, policy)) == (12 if policy == "pooled" else 0)  # type: ignore[arg-type]


def test_what_travels_arrives() -> None:
    one, other = two_networks(), Ensemble([tiny_network(3), tiny_network(4, "tiny_wide", 6)])
    specs = travelling_specs(one, "source")
    with torch.no_grad():
        one.mixing.copy_(torch.tensor([0.5, -0.25]))
    load_flat(other, flatten(parameters_of(one), specs), specs)
    assert not changed(snapshot(one), snapshot(other)) & {key for key, _ in specs}
    assert other.mixing.tolist() == [0.5, -0.25]


def test_what_is_no_ensemble_is_refused() -> None:
    network = tiny_network()
    for wrong, words in (
        ([network], "at least two"),
        ([network, network], "given twice"),
        ([network, build_network("tiny", 8, CLASSES + 1)], "numbers of classes: 3, 4"),
    ):
        with pytest.raises(MethodError, match=words) as caught:
            Ensemble(wrong)
        assert caught.value.remedy


def test_every_backbone_learns_at_the_backbones_rate_and_the_mixing_at_the_full_one() -> None:
    ensemble = two_networks()
    before = snapshot(ensemble)
    optimiser = NesterovSgd(ensemble, lr=0.5, backbone_lr_scale=0.1, momentum=0.0, weight_decay=0.0)
    for p in ensemble.parameters():
        p.grad = torch.ones_like(p)
    optimiser.step(1.0)
    for key, p in ensemble.named_parameters():
        moved = before[key] - p.detach()
        assert torch.allclose(moved, torch.full_like(moved, 0.05 if ".backbone." in key else 0.5), atol=1e-6), key
