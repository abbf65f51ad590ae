"""Translators and their discriminator: shapes, who depends on whom, the reversed gradient, and their optimiser."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from socket_core.batchnorm import bn_layers
from socket_core.config import MethodConfig, TranslatorConfig
from socket_core.optimiser import Adam
from socket_core.translators import TranslatorKind, build_bridge
from tests.core.builders import bridge_for, changed, snapshot, tiny_network

KINDS: tuple[TranslatorKind, ...] = ("unet", "paper", "replicate")


def _depth(n: int, height: int = 16, width: int = 16, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, 1, height, width, generator=generator).expand(-1, 3, -1, -1)


@settings(max_examples=25, deadline=None)
@given(st.sampled_from(KINDS), st.integers(1, 3), st.integers(1, 33), st.integers(1, 33))
def test_an_image_of_any_size_becomes_colour_of_that_size(
    kind: TranslatorKind, n: int, height: int, width: int
) -> None:
    out = build_bridge(kind, 8, 8, seed=0).eval()(_depth(n, height, width))
    assert out.shape == (n, 3, height, width)
    assert torch.isfinite(out).all()


@pytest.mark.parametrize("size", [8, 13, 16])
def test_no_image_of_a_unet_depends_on_the_others(size: int) -> None:
    bridge, x = build_bridge("unet", 8, 8, seed=0).train(), _depth(3, size, size)
    other = torch.cat([x[:1], 100 * x[1:] + 7])
    one, among, alone = (bridge(v)[0].detach() for v in (x, other, x[:1]))
    assert torch.allclose(one, among, atol=1e-6)
    assert torch.allclose(one, alone, atol=1e-6)
    assert not bn_layers(bridge)


def test_padding_to_a_multiple_of_eight_repeats_the_border() -> None:
    bridge, x = build_bridge("unet", 8, 8, seed=0), _depth(1, 13, 10)
    rows, columns = torch.arange(16).clamp_max(12), torch.arange(16).clamp_max(9)
    assert torch.equal(bridge(x), bridge(x[:, :, rows][:, :, :, columns])[:, :, :13, :10])


def test_the_translator_of_the_paper_is_a_pointwise_convolution_batchnorm_and_a_convolution() -> None:
    bridge, x = build_bridge("paper", 8, 8, seed=0).train(), _depth(4)
    state = snapshot(bridge)
    hidden = x[:, :1] * state["translator.0.weight"].view(1, 8, 1, 1) + state["translator.0.bias"].view(1, 8, 1, 1)
    mean, var = hidden.mean((0, 2, 3), keepdim=True), hidden.var((0, 2, 3), keepdim=True, correction=0)
    normal = ((hidden - mean) / (var + 1e-5).sqrt()).clamp_min(0)
    padded = torch.nn.functional.pad(normal, (1, 1, 1, 1))
    expected = state["translator.3.bias"].view(1, 3, 1, 1).expand(4, 3, 16, 16).clone()
    for row in range(3):
        for column in range(3):
            window = padded[:, :, row : row + 16, column : column + 16]
            expected += torch.einsum("oc,nchw->nohw", state["translator.3.weight"][:, :, row, column], window)
    assert torch.allclose(bridge(x), expected, atol=1e-5)


def test_replication_is_the_image_as_it_is() -> None:
    # Also where each channel is normalised by its own mean: what the source sees is then what it sees without.
    x = _depth(2) - torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1)
    bridge = build_bridge("replicate", 8, 8, seed=0)
    assert torch.equal(bridge(x), x)
    assert not any(key.startswith("translator") for key in bridge.state_dict())


@pytest.mark.parametrize("kind", ["unet", "paper"])
def test_a_translator_looks_at_one_channel(kind: TranslatorKind) -> None:
    bridge, x = build_bridge(kind, 8, 8, seed=0), _depth(2)
    other = torch.cat([x[:, :1], torch.randn(2, 2, 16, 16, generator=torch.Generator().manual_seed(3))], dim=1)
    assert torch.equal(bridge.eval()(x), bridge(other))


@pytest.mark.parametrize("kind", KINDS)
def test_a_bridge_depends_on_its_seed_alone(kind: TranslatorKind) -> None:
    torch.manual_seed(1)
    before = torch.random.get_rng_state()
    first = snapshot(build_bridge(kind, 8, 8, seed=3))
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.manual_seed(2)
    assert changed(first, snapshot(build_bridge(kind, 8, 8, seed=3))) == set()
    assert changed(first, snapshot(build_bridge(kind, 8, 8, seed=4)))


def test_every_site_starts_with_one_translator_and_only_methods_with_one_have_it() -> None:
    source = tiny_network()
    configs = [MethodConfig(name="tgkt", translator=TranslatorConfig(width=8))] * 2
    one, two = (bridge_for(cfg, source) for cfg in configs)
    assert one is not None
    assert two is not None
    assert changed(snapshot(one), snapshot(two)) == set()
    assert one.domain_scores(torch.zeros(5, 8)).shape == (5,)
    assert bridge_for(MethodConfig(name="socket"), source) is None


def test_the_translator_climbs_where_the_discriminator_descends() -> None:
    bridge = build_bridge("replicate", 8, 8, seed=0)
    features = torch.randn(6, 8, generator=torch.Generator().manual_seed(0)).requires_grad_()
    plain = bridge.discriminator(features).squeeze(1)
    scores = bridge.domain_scores(features)
    assert torch.equal(scores, plain)
    weights = list(bridge.discriminator.parameters())
    direct = torch.autograd.grad((plain**2).sum(), [features, *weights])
    reversed_ = torch.autograd.grad((scores**2).sum(), [features, *weights])
    assert direct[0].abs().min() > 0
    assert torch.equal(reversed_[0], -direct[0])
    assert all(map(torch.equal, reversed_[1:], direct[1:]))


def test_adam_is_that_of_pytorch_to_the_bit() -> None:
    ours, theirs = (build_bridge("unet", 8, 8, seed=0) for _ in range(2))
    optimiser, reference = Adam(ours.parameters(), lr=0.01), torch.optim.Adam(theirs.parameters(), lr=0.01)
    before, generator = snapshot(ours), torch.Generator().manual_seed(0)
    for factor in (1.0, 0.5, 0.25, 0.125):
        optimiser.zero_grad()
        reference.zero_grad()
        for (name, p), q in zip(ours.named_parameters(), theirs.parameters(), strict=True):
            assert p.grad is None
            if factor < 1 or not name.startswith("discriminator"):  # its first gradient comes later
                p.grad = torch.randn(p.shape, generator=generator)
                q.grad = p.grad.clone()
        optimiser.step(factor)
        reference.param_groups[0]["lr"] = 0.01 * factor
        reference.step()
        assert changed(snapshot(ours), snapshot(theirs)) == set()
    assert changed(before, snapshot(ours)) == before.keys()


def test_adam_leaves_frozen_parameters_alone() -> None:
    bridge = build_bridge("unet", 8, 8, seed=0)
    bridge.discriminator.requires_grad_(False)
    before = snapshot(bridge)
    optimiser = Adam(bridge.parameters(), lr=0.1)
    for p in bridge.parameters():
        p.grad = torch.ones_like(p)
    optimiser.step(1.0)
    assert changed(before, snapshot(bridge)) == {key for key in before if key.startswith("translator")}
