"""Gradients per record from one pass over all images: the same as by vmap, and only where images are kept apart."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from socket_core.batchnorm import bn_mode
from socket_core.config_privacy import Scope
from socket_core.data.types import Images, Index, Pairs
from socket_core.errors import PrivacyError
from socket_core.methods.socket import Socket
from socket_core.models import Model, Network, build_network
from socket_core.privacy import watched
from socket_core.privacy.dp_step import DpStep
from socket_core.privacy.per_record import Joined, Rows
from socket_core.privacy.records import Records
from socket_core.privacy.watched import Watched, can_watch
from tests.core.builders import CPU, changed, normal_batch, site_data, snapshot, tiny_network, two_networks
from tests.privacy.builders import private

FEW = np.arange(4, dtype=np.int64)
SCOPES: tuple[Scope, ...] = ("bottleneck", "bn_affine", "last_stage", "all")


def _step(target: Model, source: Model, pairs: Pairs | None = None, **values: Any) -> DpStep:
    job = private(**values)
    method = Socket(job.method, "local")
    method.configure(target, source)
    return DpStep(method, Records(pairs or site_data().ti, method.source, job, CPU), job, 3)


def _pairs(side: int) -> Pairs:
    rng = np.random.default_rng(0)
    rgb = rng.integers(0, 256, (4, side, side, 3), dtype=np.uint8)
    return Pairs(Images(rgb, 255.0), Images(rng.integers(0, 10_000, (4, side, side), dtype=np.uint16), 10_000.0))


def _near(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    """To float32's last places, against the largest entry of the tensor: sums over places cancel."""
    assert list(found) == list(expected)
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-3, atol=2e-4 * float(value.abs().max()) + 1e-12)


def _both(step: DpStep, index: Index = FEW) -> tuple[Watched, Rows]:
    """The same records watched and vectorised."""
    x, *aims = step._records.batch(index)
    with torch.no_grad(), bn_mode(step._method.target, "frozen"):
        return step._watched(x, aims), Rows(step._vectorised(x, aims))


# Of large networks the cheap scopes: strides, 1x1 convolutions and shortcuts of ResNets, biases of VGG's convolutions.
CASES: list[tuple[Scope, str, int, int]] = [
    *[(scope, "tiny", 16, views) for scope in SCOPES for views in (1, 2)],
    ("all", "resnet18", 32, 1),
    ("bn_affine", "resnet18", 32, 2),
    ("last_stage", "resnet50", 32, 2),
    ("last_stage", "vgg11_bn", 32, 1),
]


@pytest.mark.parametrize(("scope", "backbone", "side", "views"), CASES)
def test_watched_and_vectorised_gradients_agree(scope: Scope, backbone: str, side: int, views: int) -> None:
    target, source = (build_network(backbone, 8, 3, seed=seed).eval() for seed in (1, 0))
    step = _step(target, source, _pairs(side), privacy__scope=scope, method__ti_views=views)
    fast, slow = _both(step, FEW if backbone == "tiny" else FEW[:2])
    assert torch.allclose(fast.squares(), slow.squares(), rtol=1e-3)
    weights = torch.tensor([0.5, 2.0, 0.0, 1.0])[: len(fast.squares())]
    _near(fast.weighted_sum(weights), slow.weighted_sum(weights))
    _near(fast.rows(), slow.rows())


@pytest.mark.parametrize("places", [1, 1 << 22])
def test_how_many_records_are_unfolded_at_once_does_not_matter(monkeypatch: pytest.MonkeyPatch, places: int) -> None:
    monkeypatch.setattr(watched, "_PLACES_AT_ONCE", places)
    step = _step(tiny_network(1), tiny_network(0), privacy__scope="all")
    fast, slow = _both(step)
    torch.testing.assert_close(fast.squares(), slow.squares(), rtol=1e-4, atol=0)


def test_both_ways_to_a_norm_are_taken_here() -> None:
    step = _step(tiny_network(1), tiny_network(0), privacy__scope="all")
    fast, _ = _both(step)
    kept = [part._weights is None for part in fast._parts.values() if isinstance(part, watched._Layer)]
    assert {True, False} == set(kept)


def test_norms_of_records_whose_places_cancel_are_not_too_small() -> None:
    # Two views with nearly opposite gradients: of terms of 10^4 a norm near 1 is left, and float32 would lose it.
    generator = torch.Generator().manual_seed(0)
    a = torch.randn(3, 1, 64, generator=generator).expand(-1, 2, -1) * 100
    a = a + 1e-2 * torch.randn(3, 2, 64, generator=generator)
    g = torch.randn(3, 1, 32, generator=generator) * torch.tensor([1.0, -1.0])[:, None]
    exact = torch.einsum("rld,rlp->rpd", a.double(), g.double()).square().sum((1, 2))
    assert float(exact.max()) < 1e-6 * float((a.square().sum(2) * g.square().sum(2)).max())
    torch.testing.assert_close(watched._gram_norms(a, g).double(), exact, rtol=1e-5, atol=0)


def test_nothing_is_left_on_the_network() -> None:
    step = _step(two_networks(), two_networks(), privacy__scope="all")
    target = step._method.target
    before, learning = snapshot(target), [p.requires_grad for p in target.parameters()]
    with bn_mode(target, "frozen"):
        step.clipped_sum(FEW)
    assert not changed(before, snapshot(target))
    assert [p.requires_grad for p in target.parameters()] == learning
    assert all(p.grad is None for p in target.parameters())
    assert not any("forward" in vars(m) or m._forward_hooks or m._backward_hooks for m in target.modules())


class Mixing(nn.ReLU):
    """Looks like a layer that keeps images apart, and does not."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(x - x.mean(0))


@pytest.mark.parametrize(
    "layer",
    [Mixing(), nn.GroupNorm(2, 16), nn.Conv2d(16, 16, 3, groups=2), nn.Dropout(), nn.BatchNorm2d(16, affine=False)],
)
def test_a_layer_that_is_not_known_is_left_to_vmap(layer: nn.Module) -> None:
    body = nn.Sequential(nn.Conv2d(3, 16, 3), layer, nn.AdaptiveAvgPool2d(1), nn.Flatten())
    network = Network(body, 16, 8, 3).eval()
    assert not can_watch(network)
    assert can_watch(tiny_network())
    assert can_watch(two_networks())
    assert not can_watch(body)


def test_a_network_that_is_left_to_vmap_has_the_right_gradients(monkeypatch: pytest.MonkeyPatch) -> None:
    step = _step(tiny_network(1), tiny_network(0), privacy__scope="all")
    with bn_mode(step._method.target, "frozen"):
        expected = step.clipped_sum(FEW)
        monkeypatch.setattr("socket_core.privacy.dp_step.can_watch", lambda _: False)
        monkeypatch.setattr(DpStep, "_watched", lambda *_: pytest.fail("watched"))
        _near(step.clipped_sum(FEW), expected)


def test_a_layer_that_runs_twice_or_never_is_a_fault() -> None:
    network = tiny_network()
    network.requires_grad_(True)
    scope = {"backbone.0.0.weight": network.backbone.get_parameter("0.0.weight")}
    with bn_mode(network, "frozen"):
        twice = Watched(network, scope, 1)
        with twice.forward():
            out = network.features(normal_batch()) + network.features(normal_batch())
        with pytest.raises(PrivacyError, match="ran twice"):
            twice.backward(out.sum())
        never = Watched(network, {**scope, "classifier.bias": network.get_parameter("classifier.bias")}, 1)
        with never.forward():
            out = network.features(normal_batch())
        with pytest.raises(PrivacyError, match="1 layers were not reached"):
            never.backward(out.sum())


def test_joined_groups_are_one() -> None:
    generator = torch.Generator().manual_seed(0)
    rows = {"a": torch.randn(5, 2, 3, generator=generator), "b": torch.randn(5, 4, generator=generator)}
    whole = Rows(rows)
    parts = Joined([Rows({k: v[s] for k, v in rows.items()}) for s in (slice(0, 2), slice(2, 5))])
    weights = torch.tensor([1.0, 0.5, 0.0, 2.0, 3.0])
    torch.testing.assert_close(parts.squares(), torch.cat([rows["a"].flatten(1), rows["b"]], 1).square().sum(1))
    torch.testing.assert_close(parts.weighted_sum(weights), whole.weighted_sum(weights))
    torch.testing.assert_close(parts.weighted_sum(weights)["b"], (rows["b"] * weights[:, None]).sum(0))
    assert all(torch.equal(parts.rows()[name], rows[name]) for name in rows)
