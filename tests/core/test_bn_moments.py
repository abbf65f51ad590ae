"""Recorded moments of the inputs of BatchNorm layers: their values, their gradients, and no side effect."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from socket_core.batchnorm import BnMode, bn_layers, bn_mode
from socket_core.bn_moments import InputMoments, _NormaliseWithMoments
from socket_core.models import BACKBONES, build_network
from tests.core.builders import SIDE, changed, normal_batch, snapshot, statistics, tiny_network

MODES: tuple[BnMode, ...] = get_args(BnMode)


def _small() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.BatchNorm2d(3), nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5), nn.ReLU(inplace=True), nn.Flatten())


def test_input_moments_equal_moments_by_hand() -> None:
    network, x = _small(), normal_batch()
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
        network(normal_batch())
    moments.variances[1].sum().backward()
    assert isinstance(network[1], nn.Conv2d)
    assert network[1].weight.grad is not None
    assert network[1].weight.grad.abs().sum() > 0


@pytest.mark.parametrize("mode", MODES)
def test_recording_changes_neither_output_nor_statistics(mode: BnMode) -> None:
    plain, recorded = tiny_network(), tiny_network()
    with bn_mode(plain, mode), bn_mode(recorded, mode):
        expected = plain(normal_batch())
        with InputMoments(recorded):
            out = recorded(normal_batch())
    assert torch.allclose(out, expected, rtol=1e-5, atol=1e-6)
    before, after = snapshot(plain), snapshot(recorded)
    assert all(torch.allclose(before[key], after[key], rtol=1e-5, atol=1e-7) for key in before)
    assert changed(snapshot(tiny_network()), after) == (statistics(after) if mode == "update" else set())


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("terms", ["output", "mean", "var", "all"])
def test_gradients_through_moments_are_those_of_plain_autograd(mode: BnMode, terms: str) -> None:
    networks = tiny_network().double(), tiny_network().double()
    inputs = [normal_batch().double().requires_grad_() for _ in networks]
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


@pytest.mark.parametrize("zero", [False, True])
@pytest.mark.parametrize("used", [(0, 1, 2), (0,), (1,), (2,)])
def test_normalisation_with_moments_passes_gradcheck(zero: bool, used: tuple[int, ...]) -> None:
    # Scales of exactly 0 are what some networks start their residual branches with.
    generator = torch.Generator().manual_seed(0)
    x, weight, bias = (
        torch.randn(shape, generator=generator, dtype=torch.float64).requires_grad_()
        for shape in ((3, 2, 2, 2), (2,), (2,))
    )
    if zero:
        weight.data[0] = 0.0

    def function(x: Tensor, weight: Tensor, bias: Tensor) -> tuple[Tensor, ...]:
        out: tuple[Tensor, ...] = _NormaliseWithMoments.apply(x, weight, bias, (None, None), 0.1, 1e-5)
        return tuple(out[i] for i in used)  # the others' gradients are missing

    assert torch.autograd.gradcheck(function, (x, weight, bias))


def test_a_layer_without_affine_parameters_is_recorded_too() -> None:
    layer, x = nn.BatchNorm2d(3, affine=False), normal_batch().requires_grad_()
    with InputMoments(layer) as moments:
        out = layer(x)
    assert torch.allclose(out, nn.BatchNorm2d(3, affine=False)(x), atol=1e-6)
    (out.square().sum() + moments.variances[0].sum()).backward()
    assert x.grad is not None
    assert torch.isfinite(x.grad).all()


def test_a_constant_channel_has_no_variance_and_finite_gradients() -> None:
    layer, x = nn.BatchNorm2d(3), normal_batch()
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
    x = normal_batch(scale=scale)
    with InputMoments(nn.BatchNorm2d(3)) as moments:
        moments._layers[0](x)
    np.testing.assert_allclose(moments.variances[0].detach(), x.double().var((0, 2, 3), correction=0), rtol=1e-4)
    np.testing.assert_allclose(moments.means[0].detach(), x.double().mean((0, 2, 3)), rtol=1e-4, atol=1e-6)


def test_two_recorders_share_no_list() -> None:
    one, two = InputMoments(_small()), InputMoments(_small())
    assert one.means is not two.means
    assert one.variances is not two.variances
    with one as first:
        first._layers[0](normal_batch())
    kept = [m.clone() for m in one.means]
    network = tiny_network()
    with InputMoments(network) as second:
        network(normal_batch(seed=1))
    with two:
        pass
    assert (len(one.means), len(two.means), len(second.means)) == (1, 0, 5)
    assert all(map(torch.equal, one.means, kept))


def test_a_second_use_starts_new_lists() -> None:
    network = _small()
    recorder = InputMoments(network)
    with recorder:
        network(normal_batch())
    first = recorder.means
    with recorder:
        network(normal_batch(seed=1))
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
            network(normal_batch())
    count = len(recorder.means)
    network(normal_batch())
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
