"""L_d of all layers at once against the formula as it reads: values, gradients, and how many operations it takes."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from socket_core.batchnorm import bn_layers
from socket_core.losses import bn_matching
from socket_core.models import build_network
from socket_core.moment_loss import MomentDistance
from tests.core.ops import Operations


def _vectors(sizes: list[int], seed: int, scale: float = 1.0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [scale * torch.randn(n, generator=generator, dtype=torch.float64) for n in sizes]


@settings(max_examples=40, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 5), min_size=1, max_size=4),
    first=st.floats(0, 20),
    scale=st.sampled_from([1e-4, 1e4]),
)
def test_value_and_gradients_are_those_of_the_formula(sizes: list[int], first: float, scale: float) -> None:
    aims = _vectors(sizes, 1, scale), _vectors(sizes, 2, scale)
    moments = [t.requires_grad_() for t in (*_vectors(sizes, 3, scale), *_vectors(sizes, 4, scale))]
    means, variances = moments[: len(sizes)], moments[len(sizes) :]
    fast = MomentDistance(*aims, first)(means, variances)
    slow = bn_matching(means, variances, *aims, first)
    torch.testing.assert_close(fast, slow)
    for one, other in zip(torch.autograd.grad(fast, moments), torch.autograd.grad(slow, moments), strict=True):
        torch.testing.assert_close(one, other)


def test_a_layer_at_its_aim_has_no_gradient_and_spoils_no_other() -> None:
    aims = _vectors([3, 2], 0), _vectors([3, 2], 1)
    means = [aims[0][0].clone().requires_grad_(), (aims[0][1] + 1.0).requires_grad_()]
    MomentDistance(*aims, 10.0)(means, aims[1]).backward()
    assert means[0].grad is not None
    assert means[1].grad is not None
    assert not means[0].grad.any()
    torch.testing.assert_close(means[1].grad, torch.full((2,), 0.5**0.5, dtype=torch.float64))


def test_gradients_pass_gradcheck() -> None:
    aims = _vectors([2, 3], 0), _vectors([2, 3], 1)
    means, variances = ([t.requires_grad_() for t in _vectors([2, 3], seed)] for seed in (2, 3))
    distance = MomentDistance(*aims, 10.0)
    assert torch.autograd.gradcheck(lambda a, b, c, d: distance([a, b], [c, d]), (*means, *variances))


def test_at_most_150_operations_for_the_53_layers_of_resnet50() -> None:
    with torch.device("meta"):
        layers = bn_layers(build_network("resnet50", 8, 3).backbone).values()
    sizes = [layer.num_features for layer in layers]
    assert len(sizes) == 53
    aims = _vectors(sizes, 1), _vectors(sizes, 2)
    means, variances = ([t.requires_grad_() for t in _vectors(sizes, seed)] for seed in (3, 4))
    counts = []
    for distance in (MomentDistance(*aims, 10.0), lambda m, v: bn_matching(m, v, *aims)):
        with Operations() as seen:
            torch.autograd.grad(distance(means, variances), [*means, *variances])
        counts.append(len(seen.names))
        assert not seen.waits
    assert counts[0] <= 150 < 900 < counts[1], counts


@pytest.mark.parametrize("lengths", [(0, 0), (1, 2)])
def test_aims_that_do_not_fit_are_refused(lengths: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="one length"):
        MomentDistance(_vectors([2] * lengths[0], 0), _vectors([2] * lengths[1], 0), 10.0)


def test_another_number_of_layers_is_refused() -> None:
    one = _vectors([2], 0)
    with pytest.raises(ValueError, match="expected 1 layers, found 1 means, 2 variances"):
        MomentDistance(one, one, 10.0)(one, [*one, *one])
