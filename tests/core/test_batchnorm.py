"""BatchNorm modes, recorded moments of layer inputs, and the pooling of moments across sites."""

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
from socket_core.bn_moments import InputMoments, _NormaliseWithMoments
from socket_core.errors import MethodError
from socket_core.models import BACKBONES, build_network
from tests.core.builders import SIDE, changed, snapshot, statistics, tiny_network

MODES: tuple[BnMode, ...] = get_args(BnMode)


def _batch(n: int = 4, seed: int = 0, scale: float = 1.0) -> Tensor:
    return scale * torch.randn(n, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(seed)) + 0.5


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
        out = network(_batch())
    assert changed(before, snapshot(network)) == set()
    expected = tiny_network().train()(_batch())
    assert torch.equal(out, expected)
    with bn_mode(network, "frozen"):
        assert not torch.allclose(network(_batch()), expected, atol=1e-3)


def test_frozen_mode_uses_running_statistics_of_a_network_in_training() -> None:
    network = tiny_network().train()
    before = snapshot(network)
    with bn_mode(network, "frozen"):
        out = network(_batch())
    assert changed(before, snapshot(network)) == set()
    assert torch.equal(out, tiny_network().eval()(_batch()))


@pytest.mark.parametrize("training", [True, False])
def test_update_mode_uses_the_batch_and_moves_every_statistic(training: bool) -> None:
    network = tiny_network().train(training)
    before = snapshot(network)
    with bn_mode(network, "update"):
        out = network(_batch())
    assert changed(before, snapshot(network)) == statistics(before)
    assert torch.equal(out, tiny_network().train()(_batch()))


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
            inner = network(_batch())
        outer = network(_batch())
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


# --- moments of inputs ------------------------------------------------------------------------------


def _small() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.BatchNorm2d(3), nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5), nn.ReLU(inplace=True), nn.Flatten())


def test_input_moments_equal_moments_by_hand() -> None:
    network, x = _small(), _batch()
    with InputMoments(network) as moments:
        network(x)
    second = network[1](network.train()[0](x))
    for i, values in enumerate((x, second)):
        array = values.detach().double().numpy()
        mean = array.mean((0, 2, 3))
        var = ((array - mean[None, :, None, None]) ** 2).mean((0, 2, 3))
        np.testing.assert_allclose(moments.means[i].detach().numpy(), mean, rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(moments.variances[i].detach().numpy(), var, rtol=1e-4)
    assert len(moments.means) == len(moments.variances) == 2


def test_input_moments_carry_gradients() -> None:
    network = _small()
    with InputMoments(network) as moments:
        network(_batch())
    moments.variances[1].sum().backward()
    assert isinstance(network[1], nn.Conv2d)
    assert network[1].weight.grad is not None
    assert network[1].weight.grad.abs().sum() > 0


@pytest.mark.parametrize("mode", MODES)
def test_recording_changes_neither_output_nor_statistics(mode: BnMode) -> None:
    plain, recorded = tiny_network(), tiny_network()
    with bn_mode(plain, mode), bn_mode(recorded, mode):
        expected = plain(_batch())
        with InputMoments(recorded):
            out = recorded(_batch())
    assert torch.allclose(out, expected, rtol=1e-5, atol=1e-6)
    before, after = snapshot(plain), snapshot(recorded)
    assert all(torch.allclose(before[key], after[key], rtol=1e-5, atol=1e-7) for key in before)
    assert changed(snapshot(tiny_network()), after) == (statistics(after) if mode == "update" else set())


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("terms", ["output", "mean", "var", "all"])
def test_gradients_through_moments_are_those_of_plain_autograd(mode: BnMode, terms: str) -> None:
    networks = tiny_network().double(), tiny_network().double()
    inputs = [_batch().double().requires_grad_() for _ in networks]
    seen: list[Tensor] = []
    for layer in bn_layers(networks[0]).values():
        if isinstance(layer, nn.BatchNorm2d):
            layer.register_forward_hook(lambda _m, args, _out: seen.append(args[0].clone()))
    with bn_mode(networks[0], mode), bn_mode(networks[1], mode):
        outputs = [networks[0](inputs[0])]
        means, variances = [x.mean((0, 2, 3)) for x in seen], [x.var((0, 2, 3), correction=0) for x in seen]
        with InputMoments(networks[1]) as moments:
            outputs.append(networks[1](inputs[1]))
    for out, m, v in zip(outputs, (means, moments.means), (variances, moments.variances), strict=True):
        loss = torch.zeros((), dtype=torch.float64)
        for wanted, values in (("output", [out]), ("mean", m), ("var", v)):
            if terms in (wanted, "all"):
                # Weights that differ by channel: a plain sum would hide a mixed-up channel.
                loss = loss + sum((x**2 * torch.linspace(1, 2, x.shape[-1])).sum() for x in values)
        loss.backward()
    pairs = [*zip(*(n.parameters() for n in networks), strict=True), tuple(inputs)]
    for expected, found in pairs:
        if expected.grad is None:
            assert found.grad is None or not found.grad.any()
        else:
            assert found.grad is not None
            assert torch.allclose(expected.grad, found.grad, rtol=1e-8, atol=1e-9)


def test_normalisation_with_moments_passes_gradcheck() -> None:
    generator = torch.Generator().manual_seed(0)
    x, weight, bias = (
        torch.randn(shape, generator=generator, dtype=torch.float64).requires_grad_()
        for shape in ((3, 2, 2, 2), (2,), (2,))
    )

    def function(x: Tensor, weight: Tensor, bias: Tensor) -> tuple[Tensor, ...]:
        out: tuple[Tensor, ...] = _NormaliseWithMoments.apply(x, weight, bias, (None, None), 0.1, 1e-5)
        return out

    assert torch.autograd.gradcheck(function, (x, weight, bias))


def test_a_layer_without_affine_parameters_is_recorded_too() -> None:
    layer, x = nn.BatchNorm2d(3, affine=False), _batch().requires_grad_()
    with InputMoments(layer) as moments:
        out = layer(x)
    assert torch.allclose(out, nn.BatchNorm2d(3, affine=False)(x), atol=1e-6)
    (out.square().sum() + moments.variances[0].sum()).backward()
    assert x.grad is not None
    assert torch.isfinite(x.grad).all()


def test_a_constant_channel_has_no_variance_and_finite_gradients() -> None:
    layer, x = nn.BatchNorm2d(3), _batch()
    x[:, 1] = 0.25
    x.requires_grad_()
    with InputMoments(layer) as moments:
        out = layer(x)
    assert float(moments.means[0][1].detach()) == pytest.approx(0.25)
    assert float(moments.variances[0][1].detach()) == pytest.approx(0.0, abs=1e-9)
    (out.sum() + torch.linalg.vector_norm(moments.variances[0])).backward()
    assert x.grad is not None
    assert torch.isfinite(x.grad).all()


@pytest.mark.parametrize("scale", [1e-3, 1e-1, 10.0, 1e3])
def test_small_and_large_variances_are_exact_in_float32(scale: float) -> None:
    x = _batch(scale=scale)
    with InputMoments(nn.BatchNorm2d(3)) as moments:
        moments._layers[0](x)
    np.testing.assert_allclose(moments.variances[0].detach(), x.double().var((0, 2, 3), correction=0), rtol=1e-4)
    np.testing.assert_allclose(moments.means[0].detach(), x.double().mean((0, 2, 3)), rtol=1e-4, atol=1e-6)


def test_two_recorders_share_no_list() -> None:
    one, two = InputMoments(_small()), InputMoments(_small())
    assert one.means is not two.means
    assert one.variances is not two.variances
    with one as first:
        first._layers[0](_batch())
    kept = [m.clone() for m in one.means]
    network = tiny_network()
    with InputMoments(network) as second:
        network(_batch(seed=1))
    with two:
        pass
    assert (len(one.means), len(two.means), len(second.means)) == (1, 0, 5)
    assert all(map(torch.equal, one.means, kept))


def test_a_second_use_starts_new_lists() -> None:
    network = _small()
    recorder = InputMoments(network)
    with recorder:
        network(_batch())
    first = recorder.means
    with recorder:
        network(_batch(seed=1))
    assert len(first) == len(recorder.means) == 2
    assert recorder.means is not first
    assert not torch.equal(first[0], recorder.means[0])


@pytest.mark.parametrize("fails", [False, True])
def test_nothing_stays_on_the_layers_afterwards(fails: bool) -> None:
    network = _small()
    recorder = InputMoments(network)
    if fails:
        with pytest.raises(RuntimeError), recorder:
            network(torch.zeros(2, 4, SIDE, SIDE))
    else:
        with recorder:
            network(_batch())
    count = len(recorder.means)
    network(_batch())
    assert len(recorder.means) == count
    assert not any("forward" in vars(m) or m._forward_pre_hooks or m._forward_hooks for m in network.modules())


@pytest.mark.parametrize("backbone", BACKBONES)
def test_layers_run_in_the_order_in_which_they_are_listed(backbone: str) -> None:
    # L_d pairs the recorded moments with the source's statistics by position.
    with torch.device("meta"):
        network = build_network(backbone, 8, 3)
        called: list[str] = []
        for name, layer in bn_layers(network).items():
            layer.register_forward_pre_hook(lambda _m, _x, name=name: called.append(name))
        network(torch.zeros(2, 3, 64, 64))
    assert called == list(bn_layers(network))


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
        network(_batch())
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
