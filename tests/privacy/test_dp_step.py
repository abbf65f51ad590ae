"""The DP step: right gradients, clip and noise; nothing of a pair anywhere else; refusal of all that is not this."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from socket_core.batchnorm import bn_mode, bn_parameter_names
from socket_core.config import Experiment
from socket_core.config_privacy import Scope
from socket_core.data.types import Pairs
from socket_core.engine import adapt
from socket_core.errors import ConfigError, PrivacyError
from socket_core.methods.socket import Socket
from socket_core.models import Model, Network, build_network
from socket_core.privacy import dp_step
from socket_core.privacy.accounting import Event
from socket_core.privacy.dp_step import DpStep, prepare
from socket_core.privacy.records import Records
from socket_core.privacy.scope import scope_parameters
from tests.core.builders import (
    CPU,
    ONE_ROUND,
    changed,
    experiment,
    site_data,
    snapshot,
    statistics,
    tiny_network,
    two_networks,
)

SCOPES = ("bottleneck", "bn_affine", "last_stage", "all")
PRIVATE: dict[str, Any] = {
    "privacy": {"sigma": 1.0, "sample_rate": 0.5, "expected_batch": 4, "clip": 0.05},
    "method__trust": "always",
}
FEW = np.arange(5, dtype=np.int64)


@dataclass
class Purse:
    """A budget that writes down and refuses nothing."""

    charged: list[Event] = field(default_factory=list)

    def charge(self, event: Event, **about: str | float) -> None:
        self.charged.append(event)


def private(**values: Any) -> Experiment:
    """A short experiment with DP; ``values`` as for :func:`experiment`."""
    return experiment(**{**copy.deepcopy(PRIVATE), **values})


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
            method.pair_loss(features[0], method.target.features(x[0])).backward()
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
            hooked = GradSampleModule(dp_step._Features(target), strict=False)
            optimiser = DPOptimizer(
                torch.optim.SGD(step._scope.values(), lr=1.0),
                noise_multiplier=0.0,
                max_grad_norm=step._cfg.clip,
                expected_batch_size=1,
            )
            x, features = step._records.batch(FEW)
            torch.stack(
                [
                    step._method.pair_loss(f, g[None])
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


def test_a_layer_in_training_mode_is_refused() -> None:
    step = stepper(private())
    step._method.target.train()
    with pytest.raises(PrivacyError, match="training mode"):
        step.step(1.0)


# --- in the engine ----------------------------------------------------------------------------------


def run(job: Experiment, purse: Purse | None) -> tuple[Network, dict[str, float], int]:
    network = tiny_network()
    report = adapt(network, tiny_network(), site_data(), job, ONE_ROUND, budget=purse)
    return network, report.losses, report.visits


@pytest.mark.parametrize("name", ["socket", "tgkt"])
def test_a_round_is_charged_whole_and_reports_nothing_of_the_pairs(name: str) -> None:
    from socket_core.engine import make_bridge

    purse, network = Purse(), tiny_network()
    job = private(method__name=name, method__translator__kind="replicate")
    bridge = make_bridge(job, network)
    report = adapt(network, tiny_network(), site_data(), job, ONE_ROUND, budget=purse, bridge=bridge)
    assert purse.charged == [Event(1.0, 0.5, 3)]
    assert "ti" not in report.losses
    assert report.visits == 3 * (6 + 4)


def test_running_statistics_are_those_of_a_job_that_never_saw_the_pairs() -> None:
    """With a rate of TI steps so small that weights do not move, buffers are bit-identical."""
    with_pairs, _, _ = run(private(privacy__lr=1e-30), Purse())
    without, _, _ = run(private(method__weights__ti=0.0), None)
    differ = changed(snapshot(without), snapshot(with_pairs))
    assert not statistics(differ)


def test_a_job_of_ti_steps_alone_runs() -> None:
    weights = {f"method__weights__{term}": 0.0 for term in ("pl", "im", "bn")}
    network, losses, _ = run(private(**weights), Purse())
    assert losses == {}
    assert {n for n in changed(snapshot(tiny_network()), snapshot(network)) if "running" not in n} >= {
        "bottleneck.0.weight"
    }


def test_without_a_ledger_nothing_is_trained() -> None:
    network = tiny_network()
    before = snapshot(network)
    with pytest.raises(PrivacyError, match="no ledger"):
        adapt(network, tiny_network(), site_data(), private(), ONE_ROUND)
    assert not changed(before, snapshot(network))


def test_a_refused_charge_leaves_pairs_and_network_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    class Empty(Purse):
        def charge(self, event: Event, **about: str | float) -> None:
            raise PrivacyError("used up")

    def looked(*_: object) -> None:
        raise AssertionError("pairs were looked at")

    monkeypatch.setattr(dp_step, "Records", looked)
    network = tiny_network()
    before = snapshot(network)
    with pytest.raises(PrivacyError, match="used up"):
        adapt(network, tiny_network(), site_data(), private(), ONE_ROUND, budget=Empty())
    assert not changed(before, snapshot(network))


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"method__ti_loss": "frobenius"}, "frobenius"),
        ({"method__trust": "agreement"}, "method.trust"),
        ({"method__name": "tgkt"}, "translator.kind"),
        ({"privacy__epsilon": 3.0}, "epsilon or sigma"),
        ({"privacy__sigma": 0.1}, "sigma"),
    ],
)
def test_an_experiment_with_a_use_that_is_not_accounted_is_refused(changes: dict[str, Any], named: str) -> None:
    values = {**copy.deepcopy(PRIVATE), "federation__rounds": 2, **changes}
    with pytest.raises(ConfigError, match=named):
        experiment(**values)


def test_the_engine_refuses_what_went_round_the_validation() -> None:
    job = private()
    smuggled = job.model_copy(update={"method": job.method.model_copy(update={"ti_loss": "frobenius"})})
    with pytest.raises(PrivacyError, match="frobenius"):
        run(smuggled, Purse())


def test_a_subclass_has_to_say_anew_that_its_terms_are_of_one_pair() -> None:
    class Other(Socket):
        name = "other"

    job = private()
    method = Other(job.method, "local")
    method.configure(tiny_network(), tiny_network())
    with pytest.raises(PrivacyError, match="other has no DP step"):
        prepare(method, site_data().ti, job, 3, Purse(), CPU)


def test_without_the_section_the_digest_is_what_it_was() -> None:
    assert experiment().digest() == experiment(privacy=None).digest() != private().digest()
    assert '"privacy"' not in experiment().model_dump_json(exclude={"privacy": True})


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
