"""The DP step: right gradients, clip and noise; nothing of a pair anywhere else; refusal of all that is not this."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from socket_core.batchnorm import bn_mode, bn_parameter_names
from socket_core.config import Experiment
from socket_core.config_privacy import Scope
from socket_core.data.types import Pairs
from socket_core.errors import PrivacyError
from socket_core.methods.socket import Socket
from socket_core.models import Model, build_network
from socket_core.privacy import dp_step
from socket_core.privacy.dp_step import DpStep
from socket_core.privacy.records import Records
from socket_core.privacy.scope import scope_parameters
from tests.core.builders import (
    CPU,
    changed,
    site_data,
    snapshot,
    tiny_network,
    two_networks,
)
from tests.privacy.builders import private

SCOPES = ("bottleneck", "bn_affine", "last_stage", "all")
FEW = np.arange(5, dtype=np.int64)


def stepper(job: Experiment, pairs: Pairs | None = None, target: Model | None = None, charged: int = 3) -> DpStep:
    """A DP step of SOCKET at a target that has moved away from its source."""
    method = Socket(job.method, "local")
    method.configure(target or tiny_network(1), tiny_network(0) if target is None else two_networks())
    return DpStep(method, Records(pairs or site_data().ti, method.source, job, CPU), job, charged)


def frozen_gradients(step: DpStep, index: NDArray[np.int64] = FEW) -> dict[str, torch.Tensor]:
    with bn_mode(step._method.target, "frozen"):
        return step.gradients(index)


def assert_near(found: torch.Tensor, expected: torch.Tensor) -> None:
    """Equal to float32's last places, against the largest entry: sums over pixels cancel."""
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()) + 1e-12)


class Silent:
    """Draws every record, or none, and no noise."""

    def __init__(self, everyone: bool = True) -> None:
        self.everyone = everyone

    def random(self, n: int) -> NDArray[np.float64]:
        return np.zeros(n) if self.everyone else np.ones(n)

    def standard_normal(self, shape: Sequence[int], dtype: Any) -> NDArray[np.float32]:
        return np.zeros(shape, dtype=dtype)


# --- gradients --------------------------------------------------------------------------------------


@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize("several", [False, True])
def test_per_record_gradients_are_those_of_one_record_at_a_time(scope: str, several: bool) -> None:
    step = stepper(private(privacy__scope=scope), target=two_networks() if several else None)
    method, found = step._method, frozen_gradients(step)
    for position in FEW:
        x, features = step._records.batch(np.array([position]))
        method.target.zero_grad()
        with bn_mode(method.target, "frozen"):
            method.pair_loss(method.target.features(x[0]), features[0]).backward()
        for name, parameter in scope_parameters(method.target, step._cfg.scope).items():
            assert parameter.grad is not None
            assert_near(found[name][position], parameter.grad)


# Opacus hooks modules whose inputs need no gradient.
@pytest.mark.filterwarnings("ignore:Full backward hook is firing:UserWarning")
def test_opacus_finds_the_same_clipped_sum() -> None:
    """Another implementation as the reference: hooks and DPOptimizer without noise.

    For contiguous images only: for channels-last ones, which our loader makes, Opacus 1.6 finds zeros for most
    convolutions, without a word.
    """
    from opacus import GradSampleModule
    from opacus.optimizers import DPOptimizer

    step = stepper(private(method__ti_views=1, privacy__scope="all"))
    target = step._method.target
    for name, parameter in target.named_parameters():  # Opacus has no gradients of BatchNorm
        parameter.requires_grad_(name in step._scope and name not in bn_parameter_names(target))
    step._scope = scope_parameters(target, "all")
    with bn_mode(target, "frozen"):
        ours = step.clipped_sum(FEW)
        target.train()
        with bn_mode(target, "frozen"):
            hooked = GradSampleModule(dp_step.Part(target, target.features), strict=False)
            optimiser = DPOptimizer(
                torch.optim.SGD(step._scope.values(), lr=1.0),
                noise_multiplier=0.0,
                max_grad_norm=step._cfg.clip,
                expected_batch_size=1,
            )
            x, features = step._records.batch(FEW)
            torch.stack(
                [
                    step._method.pair_loss(g[None], f)
                    for f, g in zip(features, hooked(x[:, 0].contiguous()), strict=True)
                ]
            ).mean().backward()
            optimiser.pre_step()
    for name, trained in step._scope.items():
        assert trained.grad is not None
        assert_near(ours[name], trained.grad)


@pytest.mark.parametrize("scope", SCOPES)
def test_a_records_gradient_does_not_change_with_another_record_nor_with_how_many_there_are(scope: str) -> None:
    job, pairs, other = private(privacy__scope=scope), site_data().ti, site_data(seed=50).ti
    mixed = Pairs(
        type(pairs.rgb)(np.concatenate([pairs.rgb.pixels[:2], other.rgb.pixels[2:5]]), 255.0),
        type(pairs.target)(np.concatenate([pairs.target.pixels[:2], other.target.pixels[2:5]]), 10_000.0),
    )
    alone, among = (frozen_gradients(stepper(job, p), np.arange(len(p))) for p in (pairs, mixed))
    for name in alone:
        assert_near(alone[name][:2], among[name][:2])


def test_no_record_moves_the_sum_by_more_than_the_clip_norm() -> None:
    step = stepper(private(privacy__clip=1e-4, privacy__scope="all"))
    assert _norm(frozen_gradients(step, FEW[:1])) > 1e-3
    for position in FEW:
        assert _norm(step.clipped_sum(FEW[position : position + 1])) == pytest.approx(1e-4, rel=1e-4)


def _norm(parts: dict[str, torch.Tensor]) -> float:
    return float(torch.stack([p.double().square().sum() for p in parts.values()]).sum().sqrt())


def test_a_record_whose_gradient_is_not_finite_contributes_nothing() -> None:
    step = stepper(private())
    rest = step.clipped_sum(FEW[1:])
    step._records._features[0] = float("nan")
    found = step.clipped_sum(FEW)
    for name, value in rest.items():
        torch.testing.assert_close(found[name], value)


def test_chunks_do_not_matter() -> None:
    whole, parts = (stepper(private(privacy__chunk=chunk)).clipped_sum(FEW) for chunk in (5, 2))
    for name, value in whole.items():
        torch.testing.assert_close(parts[name], value)


# --- the update -------------------------------------------------------------------------------------


def test_the_update_is_the_clipped_sum_over_the_expected_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dp_step, "fresh_generator", Silent)
    step = stepper(private(privacy__lr=0.5))
    before, everyone = snapshot(step._method.target), np.arange(8)
    total = step.clipped_sum(everyone)
    step.step(0.1)
    after = snapshot(step._method.target)
    assert changed(before, after) == set(step._scope)
    for name in step._scope:
        torch.testing.assert_close(after[name], before[name] - 0.5 * 0.1 * total[name] / 4)


def test_an_empty_draw_is_noise_of_the_stated_size() -> None:
    step = stepper(private(privacy__scope="all", privacy__lr=1.0))
    step._records.count = 0
    before = snapshot(step._method.target)
    step.step(1.0)
    after = snapshot(step._method.target)
    noise = torch.cat([(after[name] - before[name]).flatten() for name in step._scope])
    assert len(noise) > 50_000
    assert float(noise.std()) == pytest.approx(1.0 * 0.05 / 4, rel=0.01)
    assert abs(float(noise.mean())) < 4 * float(noise.std()) / len(noise) ** 0.5


def test_the_runs_seed_does_not_decide_noise_or_draw() -> None:
    first, second = (stepper(private(seed=7)) for _ in range(2))
    assert not np.array_equal(first._rng.random(8), second._rng.random(8))


def test_no_more_steps_than_were_charged() -> None:
    step = stepper(private(), charged=1)
    step.step(1.0)
    before = snapshot(step._method.target)
    with pytest.raises(PrivacyError, match="not charged"):
        step.step(1.0)
    assert not changed(before, snapshot(step._method.target))


def test_no_gradient_of_a_pair_stays_behind() -> None:
    step = stepper(private(privacy__scope="all"))
    step.step(1.0)
    assert all(p.grad is None for p in step._method.target.parameters())
    assert not any("grad_sample" in vars(p) for p in step._method.target.parameters())


@pytest.mark.parametrize("buffer", ["backbone.0.1.running_var", "bottleneck.1.num_batches_tracked"])
def test_a_buffer_that_pairs_have_changed_is_a_fault(monkeypatch: pytest.MonkeyPatch, buffer: str) -> None:
    step = stepper(private())
    found = step._method.target.get_buffer(buffer)
    clipped_sum = step.clipped_sum

    def spoil(index: NDArray[np.int64]) -> dict[str, torch.Tensor]:
        found.add_(1)
        return clipped_sum(index)

    monkeypatch.setattr(step, "clipped_sum", spoil)
    with pytest.raises(PrivacyError, match=f"changed the buffer {buffer}"):
        step.step(1.0)


def test_a_layer_in_training_mode_is_refused() -> None:
    step = stepper(private())
    step._method.target.train()
    with pytest.raises(PrivacyError, match="training mode"):
        step.step(1.0)


@pytest.mark.parametrize("backbone", ["tiny", "resnet18", "vgg11_bn"])
def test_scopes_grow_and_never_hold_the_classifier(backbone: str) -> None:
    network = build_network(backbone, 8, 3)
    counts = []
    scopes: tuple[Scope, ...] = ("bottleneck", "last_stage", "all")
    for scope in scopes:
        names = set(scope_parameters(network, scope))
        assert not any(name.startswith("classifier") for name in names)
        counts.append(len(names))
    assert counts[0] < counts[1] < counts[2]
    assert set(scope_parameters(network, "bn_affine")) == bn_parameter_names(network)
