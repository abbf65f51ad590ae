"""Backbones in bfloat16: what is narrow then, and what stays float32. On a CPU: right, not fast."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from socket_core.batchnorm import bn_layers, bn_mode
from socket_core.bn_moments import InputMoments
from socket_core.config import Experiment
from socket_core.errors import ConfigError
from socket_core.models import half_precision
from tests.core.builders import (
    adapt_by,
    changed,
    configured,
    experiment,
    normal_batch,
    snapshot,
    ti_batch,
    tiny_network,
    tr_batch,
    tr_loader,
    two_networks,
)

CLOSE = 0.05
"""bfloat16 has 8 bits of mantissa: 0.4 % for each rounding, over ten layers."""


def _gap(one: Tensor, other: Tensor) -> float:
    return float((one - other).detach().double().norm() / other.detach().double().norm())


def test_only_the_backbone_is_narrow() -> None:
    network, seen = tiny_network(), dict[str, torch.dtype]()
    for name, layer in network.named_modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            layer.register_forward_hook(lambda _m, _x, out, name=name: seen.update({name: out.dtype}))
    with half_precision(network, True):
        logits = network(normal_batch())
    assert logits.dtype == torch.float32
    logits.square().sum().backward()
    narrow = {name for name, kind in seen.items() if kind == torch.bfloat16}
    assert narrow == {name for name in seen if name.startswith("backbone")}
    assert len(narrow) == 5
    assert all(p.grad is not None and p.grad.dtype == torch.float32 for p in network.backbone.parameters())


def test_statistics_and_moments_stay_float32_and_near() -> None:
    wide, narrow = tiny_network(), tiny_network()
    recorded = []
    for network, on in ((wide, False), (narrow, True)):
        with half_precision(network, on), bn_mode(network, "update"), InputMoments(network) as moments:
            network(normal_batch(16))
        recorded.append(moments)
        sum((m.square().sum() for m in (*moments.means, *moments.variances)), torch.zeros(())).backward()
    for a, b in zip(
        (*recorded[0].means, *recorded[0].variances), (*recorded[1].means, *recorded[1].variances), strict=True
    ):
        assert b.dtype == torch.float32
        assert _gap(b, a) < CLOSE
    for one, other in zip(bn_layers(wide).values(), bn_layers(narrow).values(), strict=True):
        assert one.running_var is not None
        assert other.running_var is not None
        assert other.running_var.dtype == torch.float32
        assert 0 < _gap(other.running_var, one.running_var) < CLOSE or isinstance(one, nn.BatchNorm1d)
    for p, q in zip(wide.backbone.parameters(), narrow.backbone.parameters(), strict=True):
        assert (p.grad is None) == (q.grad is None)
        if p.grad is not None and q.grad is not None and p.grad.any():  # the last scale and shift move no moment
            assert _gap(q.grad, p.grad) < 4 * CLOSE


@pytest.mark.parametrize("name", ["shot", "socket", "tgkt"])
def test_the_terms_of_a_step_are_near_those_in_float32(name: str) -> None:
    terms = []
    for on in (False, True):
        method, target, source = configured(experiment(method__name=name).method)
        method.begin(tr_loader())
        method.refresh(tr_loader())  # in float32 both times: a label that flips would be another loss
        with half_precision(target, on):
            terms.append(method.step(tr_batch(), ti_batch(source)))
    assert terms[0].keys() == terms[1].keys()
    for key, wide in terms[0].items():
        assert terms[1][key].dtype == torch.float32
        assert 0 < abs(float((terms[1][key] - wide).detach())) < CLOSE * max(1.0, abs(float(wide.detach()))), key


@pytest.mark.parametrize("name", ["socket", "tgkt"])
def test_a_job_in_bfloat16_leaves_a_float32_network(name: str) -> None:
    wide, _ = adapt_by(name)
    narrow, report = adapt_by(name, precision="bfloat16")
    a, b = snapshot(wide), snapshot(narrow)
    assert all(value.dtype == a[key].dtype for key, value in b.items())
    assert all(torch.isfinite(value).all() for value in b.values())
    assert "backbone.0.0.weight" in changed(a, b)
    assert report.steps == 3
    assert not narrow.narrow


@pytest.mark.parametrize("fails", [False, True])
def test_the_switch_is_put_back(fails: bool) -> None:
    network = two_networks()
    if fails:
        with pytest.raises(RuntimeError), half_precision(network, True):
            raise RuntimeError
    else:
        with half_precision(network, True):
            assert all(member.narrow for member in network.members)
    assert not any(member.narrow for member in network.members)


def test_pairs_under_dp_are_float32() -> None:
    privacy = {"sigma": 1.0, "sample_rate": 0.5, "expected_batch": 4}
    with pytest.raises(ConfigError, match="clipped in float32"):
        experiment(privacy=privacy, precision="bfloat16")


def test_an_experiment_in_float32_is_the_one_it_was() -> None:
    assert "precision" in Experiment().model_dump()
    assert experiment(precision="float32").digest() == experiment().digest()
    assert experiment(precision="bfloat16").digest() != experiment().digest()
