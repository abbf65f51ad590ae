"""BatchNorm layers and their modes, running statistics, and the pooling of moments across sites."""

from __future__ import annotations

import re
from typing import get_args

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from socket_core.batchnorm import (
    BnMode,
    Moments,
    bn_layers,
    bn_mode,
    bn_parameter_names,
    pool_moments,
    running_moments,
    set_running_moments,
)
from socket_core.errors import MethodError
from socket_core.models import build_network
from tests.core.builders import changed, normal_batch, snapshot, statistics, tiny_network

MODES: tuple[BnMode, ...] = get_args(BnMode)


def _moments(values: Tensor) -> Moments:
    return Moments(len(values), values.mean(0), values.var(0, correction=0))


# --- which layers -----------------------------------------------------------------------------------


def test_layers_are_found_by_type_in_a_shortcut_too() -> None:
    network = build_network("resnet18", 8, 3)
    found = bn_layers(network)
    assert {"backbone.bn1", "backbone.layer2.0.downsample.1", "bottleneck.1"} <= found.keys()
    assert len(found) == 21  # 20 of ResNet-18 and the bottleneck's
    assert all(isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d) for m in found.values())


def test_parameter_names_are_exactly_those_of_the_layers() -> None:
    network = tiny_network()
    names = bn_parameter_names(network)
    assert names <= {name for name, _ in network.named_parameters()}
    assert names == {f"{layer}.{key}" for layer in bn_layers(network) for key in ("weight", "bias")}
    assert bn_parameter_names(nn.Sequential(nn.BatchNorm2d(3, affine=False))) == set()


# --- modes ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("training", [True, False])
def test_batch_mode_uses_the_batch_and_touches_no_buffer(training: bool) -> None:
    network = tiny_network().train(training)
    before = snapshot(network)
    with bn_mode(network, "batch"):
        out = network(normal_batch())
    assert changed(before, snapshot(network)) == set()
    expected = tiny_network().train()(normal_batch())
    assert torch.equal(out, expected)
    with bn_mode(network, "frozen"):
        assert not torch.allclose(network(normal_batch()), expected, atol=1e-3)


def test_frozen_mode_uses_running_statistics_of_a_network_in_training() -> None:
    network = tiny_network().train()
    before = snapshot(network)
    with bn_mode(network, "frozen"):
        out = network(normal_batch())
    assert changed(before, snapshot(network)) == set()
    assert torch.equal(out, tiny_network().eval()(normal_batch()))


@pytest.mark.parametrize("training", [True, False])
def test_update_mode_uses_the_batch_and_moves_every_statistic(training: bool) -> None:
    network = tiny_network().train(training)
    before = snapshot(network)
    with bn_mode(network, "update"):
        out = network(normal_batch())
    assert changed(before, snapshot(network)) == statistics(before)
    assert torch.equal(out, tiny_network().train()(normal_batch()))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("fails", [False, True])
def test_modes_are_restored_layer_by_layer(mode: BnMode, fails: bool) -> None:
    network = tiny_network().eval()
    layers = list(bn_layers(network).values())
    layers[0].train()
    layers[1].track_running_stats = False
    before = [(m.training, m.track_running_stats) for m in layers]
    if fails:
        with pytest.raises(RuntimeError, match="inside"), bn_mode(network, mode):
            raise RuntimeError("inside")
    else:
        with bn_mode(network, mode):
            assert {m.training for m in layers} == {mode != "frozen"}
    assert [(m.training, m.track_running_stats) for m in layers] == before
    assert not network.training


def test_modes_nest() -> None:
    network = tiny_network()
    before = snapshot(network)
    with bn_mode(network, "frozen"):
        with bn_mode(network, "batch"):
            inner = network(normal_batch())
        outer = network(normal_batch())
    assert changed(before, snapshot(network)) == set()
    assert not torch.equal(inner, outer)


# --- pooling ----------------------------------------------------------------------------------------


@settings(max_examples=50, deadline=None)
@given(
    counts=st.lists(st.integers(1, 40), min_size=1, max_size=5),
    seed=st.integers(0, 2**32),
    dtype=st.sampled_from([torch.float32, torch.float64]),
)
def test_pooled_moments_are_those_of_all_values_together(counts: list[int], seed: int, dtype: torch.dtype) -> None:
    rng = np.random.default_rng(seed)
    sites = [rng.normal(rng.normal(0, 5, 3), rng.uniform(0.1, 3, 3), (n, 3)) for n in counts]
    pooled = pool_moments([_moments(torch.from_numpy(v).to(dtype)) for v in sites])
    together = np.concatenate(sites)
    tolerance = 1e-12 if dtype == torch.float64 else 1e-5
    assert pooled.count == len(together)
    assert pooled.mean.dtype == pooled.var.dtype == dtype
    np.testing.assert_allclose(pooled.mean.double(), together.mean(0), rtol=tolerance, atol=10 * tolerance)
    np.testing.assert_allclose(pooled.var.double(), together.var(0), rtol=tolerance, atol=10 * tolerance)


def test_the_variance_between_sites_is_part_of_the_pooled_variance() -> None:
    one = torch.ones(1)
    pooled = pool_moments([Moments(7, -5 * one, one), Moments(7, 5 * one, one)])
    assert (pooled.count, float(pooled.mean), float(pooled.var)) == (14, 0.0, 26.0)


def test_a_site_counts_by_its_size() -> None:
    one = torch.ones(1)
    pooled = pool_moments([Moments(1, 0 * one, one), Moments(3, 4 * one, one)])
    assert (float(pooled.mean), float(pooled.var)) == (3.0, 4.0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_large_common_offset_does_not_cancel(dtype: torch.dtype) -> None:
    one = torch.ones(1, dtype=dtype)
    parts = [Moments(2, 1e6 * one - 1, 0.25 * one), Moments(2, 1e6 * one + 1, 0.25 * one)]
    pooled = pool_moments(parts)
    assert float(pooled.mean) == 1e6
    assert float(pooled.var) == pytest.approx(1.25, rel=1e-6)


def test_one_site_is_left_as_it_is() -> None:
    part = _moments(torch.randn(9, 4, generator=torch.Generator().manual_seed(0)))
    pooled = pool_moments([part])
    assert torch.equal(pooled.mean, part.mean)
    assert torch.equal(pooled.var, part.var)


@pytest.mark.parametrize("parts", [[], [Moments(0, torch.zeros(2), torch.ones(2))]])
def test_pooling_nothing_is_refused(parts: list[Moments]) -> None:
    with pytest.raises(ValueError, match="positive count"):
        pool_moments(parts)


# --- running statistics -----------------------------------------------------------------------------


def test_running_statistics_round_trip() -> None:
    network, other = tiny_network(0), tiny_network(1)
    moments = running_moments(network, 5)
    assert moments.keys() == bn_layers(network).keys()
    assert {m.count for m in moments.values()} == {5}
    before = snapshot(other)
    set_running_moments(other, moments)
    for name, m in running_moments(other, 5).items():
        assert torch.equal(m.mean, moments[name].mean)
        assert torch.equal(m.var, moments[name].var)
    assert changed(before, snapshot(other)) == {k for k in statistics(before) if "tracked" not in k}


def test_running_moments_are_copies() -> None:
    network = tiny_network()
    moments = running_moments(network, 1)
    kept = {name: m.mean.clone() for name, m in moments.items()}
    with bn_mode(network, "update"):
        network(normal_batch())
    assert all(torch.equal(moments[name].mean, mean) for name, mean in kept.items())


def test_a_layer_without_entry_is_refused() -> None:
    network = tiny_network()
    moments = running_moments(network, 1)
    del moments["bottleneck.1"]
    with pytest.raises(KeyError, match=re.escape("bottleneck.1")):
        set_running_moments(network, moments)


def test_a_layer_without_running_statistics_is_refused() -> None:
    with pytest.raises(MethodError, match="no running statistics") as caught:
        running_moments(nn.Sequential(nn.BatchNorm2d(3, track_running_stats=False)), 1)
    assert caught.value.remedy
