"""TGMB: one step by hand, what it may change, and what it looks at."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from socket_core.agreement import Predictor
from socket_core.config import MethodConfig, TranslatorWeights
from socket_core.data.types import SiteData
from socket_core.engine import Segment, adapt, adapt_alone, make_bridge
from socket_core.errors import MethodError
from socket_core.methods import build_method
from socket_core.methods.base import TiBatch
from socket_core.methods.tgmb import Tgmb
from socket_core.translators import Bridge
from tests.core.builders import (
    Fixed,
    bridge_for,
    changed,
    experiment,
    rgb_images,
    site_data,
    snapshot,
    ti_batch,
    tiny_network,
    tr_batch,
    tr_loader,
)

TERMS = ("rec", "features", "domain", "im")
WEIGHTS = {"rec": 0.7, "features": 3.0, "domain": 0.2, "im": 0.4}
BRIDGE_ROUND = Segment("site-00", round=1, steps=3, rounds=1, fresh=False, stage="bridge")


def _tgmb(on: tuple[str, ...] = TERMS, **translator: Any) -> Tgmb:
    weights = {name: WEIGHTS[name] if name in on else 0.0 for name in TERMS}
    cfg = experiment(method__name="tgkt", method__translator={"width": 8, **translator, "weights": weights}).method
    method, source = build_method(cfg, "local", bridge=True), tiny_network()
    assert isinstance(method, Tgmb)
    method.configure(tiny_network(), source, bridge_for(cfg, source))
    return method


def _pairs(method: Tgmb) -> TiBatch:
    batch = ti_batch(method.source)
    assert batch.rgb is not None
    return batch


def _by_hand(method: Tgmb, batch: TiBatch) -> dict[str, float]:
    """The four unweighted terms in float64, from the formulas."""
    source, bridge = tiny_network().eval().double(), method.bridge.double()
    assert batch.rgb is not None
    with torch.no_grad():
        ti, tr = (bridge.translator(x[:, :1].double()) for x in (batch.x, tr_batch().x))  # type: ignore[misc]
        features = [source.features(v) for v in (ti, tr)]
        w1, b1, w2, b2 = bridge.discriminator.state_dict().values()
        scores = [((f @ w1.T + b1).clamp_min(0) @ w2.T + b2)[:, 0] for f in features]
        p = source.classifier(features[1]).softmax(1).numpy()
    says_ti = [1 / (1 + np.exp(-s.numpy())) for s in scores]
    mean = p.mean(0)
    values = {
        "rec": np.mean((ti.numpy() - batch.rgb.double().numpy()) ** 2),
        "features": np.mean((features[0].numpy() - batch.source_features.double().numpy()) ** 2),
        "domain": -0.5 * (np.log(says_ti[0]).mean() + np.log(1 - says_ti[1]).mean()),
        "im": -(p * np.log(p)).sum(1).mean() + (mean * np.log(mean)).sum(),
    }
    bridge.float()
    return {name: float(value) for name, value in values.items()}


def test_one_step_by_hand() -> None:
    method = _tgmb()
    batch = _pairs(method)
    terms = {name: float(value.detach()) for name, value in method.step(tr_batch(), batch).items()}
    hand = _by_hand(method, batch)
    assert terms.keys() == set(TERMS)
    for name in TERMS:
        assert terms[name] == pytest.approx(WEIGHTS[name] * hand[name], rel=1e-3), name


@pytest.mark.parametrize("on", [c for n in range(1, 5) for c in combinations(TERMS, n)], ids="-".join)
def test_a_weight_of_zero_switches_its_term_off(on: tuple[str, ...]) -> None:
    method, full = _tgmb(on), _tgmb()
    terms = method.step(tr_batch(), _pairs(method))
    assert terms.keys() == set(on)
    other = full.step(tr_batch(), _pairs(full))
    assert all(torch.equal(value, other[name]) for name, value in terms.items())
    if {"rec", "features"} & set(on):
        method.check()
    else:
        with pytest.raises(MethodError, match="nothing ties the translator to RGB"):
            method.check()


@pytest.mark.parametrize("kind", ["unet", "paper"])
def test_gradients_reach_the_bridge_and_nothing_else(kind: str) -> None:
    method = _tgmb(kind=kind)
    method.check()
    before = snapshot(method.target), snapshot(method.source), snapshot(method.bridge)
    method.refresh(tr_loader())
    torch.stack(list(method.step(tr_batch(), _pairs(method)).values())).sum().backward()
    assert all(p.grad is None for network in (method.target, method.source) for p in network.parameters())
    assert all(p.grad is not None for p in method.bridge.parameters())
    method.optimiser().step(1.0)
    assert method.learner() is method.bridge
    assert changed(before[0], snapshot(method.target)) == set()
    assert changed(before[1], snapshot(method.source)) == set()
    moved = changed(before[2], snapshot(method.bridge))
    assert moved >= {f"discriminator.{i}.{key}" for i in (0, 2) for key in ("weight", "bias")}
    assert any(key.startswith("translator") for key in moved)


def test_without_the_domain_term_the_discriminator_rests() -> None:
    method = _tgmb(("rec", "im"))
    before = snapshot(method.bridge)
    torch.stack(list(method.step(tr_batch(), _pairs(method)).values())).sum().backward()
    method.optimiser().step(1.0)
    assert not any(key.startswith("discriminator") for key in changed(before, snapshot(method.bridge)))


def test_a_step_on_the_domain_term_helps_the_discriminator_and_a_translator_step_confuses_it() -> None:
    # Each half alone moves the very term: down for the discriminator, up for the translator.
    for part, sign in (("discriminator", -1.0), ("translator", 1.0)):
        method = _tgmb(("rec", "domain"))
        batch = _pairs(method)
        before = method.step(tr_batch(), batch)["domain"]
        before.backward()
        with torch.no_grad():
            for name, p in method.bridge.named_parameters():
                if name.startswith(part) and p.grad is not None:
                    p.sub_(0.01 * p.grad / p.grad.norm().clamp_min(1e-12))
        after = method.step(tr_batch(), batch)["domain"]
        assert sign * float((after - before).detach()) > 0, part


@pytest.mark.parametrize("policy", ["local", "source", "pooled"])
@pytest.mark.parametrize("kind", ["unet", "paper"])
def test_a_round_trains_the_bridge_and_leaves_every_bit_of_both_networks(policy: str, kind: str) -> None:
    job = experiment(method__name="tgkt", federation__bn_policy=policy, method__translator={"width": 8, "kind": kind})
    network, source = tiny_network(), tiny_network(1)
    bridge = make_bridge(job, source)
    assert bridge is not None
    before = snapshot(network), snapshot(source), snapshot(bridge)
    report = adapt(network, source, site_data(), job, BRIDGE_ROUND, bridge=bridge)
    assert changed(before[0], snapshot(network)) == set()
    assert changed(before[1], snapshot(source)) == set()
    # A bias before BatchNorm has no gradient but rounding, which Adam may or may not move.
    assert before[2].keys() - changed(before[2], snapshot(bridge)) <= {"translator.0.bias"}
    assert report.losses.keys() == set(TERMS)
    assert (report.steps, report.visits) == (3, 3 * 12)


def test_the_translator_learns() -> None:
    job = experiment(method__name="tgkt", method__translator={"width": 8, "lr": 0.01})
    losses = []
    for steps in (1, 40):
        bridge = make_bridge(job, tiny_network())
        segment = Segment("site-00", 1, steps, 1, fresh=False, stage="bridge")
        report = adapt(tiny_network(), tiny_network(), site_data(), job, segment, bridge=bridge)
        losses.append(report.losses["rec"])
    assert losses[1] < 0.8 * losses[0]


def test_trust_scales_information_maximisation() -> None:
    method, trusting = _tgmb(), _tgmb()
    method.cfg = method.cfg.model_copy(update={"trust": "agreement"})
    method.probe = Fixed(trust=0.25)
    method.refresh(tr_loader())
    terms, full = (m.step(tr_batch(), _pairs(m)) for m in (method, trusting))
    assert float(terms["im"].detach()) == pytest.approx(0.25 * float(full["im"].detach()))
    assert all(torch.equal(terms[name], full[name]) for name in ("rec", "features", "domain"))


def test_trust_is_asked_for_the_source_on_translated_images() -> None:
    method, asked = _tgmb(), []

    class Asking(Fixed):
        def agreement(self, predict: Predictor) -> float:
            asked.append(predict(tr_batch().x))
            return 1.0

    method.cfg = method.cfg.model_copy(update={"trust": "agreement"})
    method.probe = Asking()
    method.refresh(tr_loader())
    with torch.no_grad():
        expected = tiny_network().eval()(method.bridge(tr_batch().x))
    assert torch.allclose(asked[0], expected, atol=1e-4)


def test_pairs_with_colour_are_needed() -> None:
    method = _tgmb()
    for ti in (None, TiBatch(torch.zeros(2, 3, 16, 16), torch.zeros(2, 8))):
        with pytest.raises(MethodError, match="needs TI pairs"):
            method.step(tr_batch(), ti)
    assert Tgmb.needs_pairs(MethodConfig(name="tgkt"))
    with pytest.raises(MethodError, match="no translator"):
        Tgmb(MethodConfig(name="tgkt"), "local").configure(tiny_network(), tiny_network())


@pytest.mark.parametrize("pairs", [0, 1])
def test_a_site_without_pairs_is_refused(pairs: int) -> None:
    job = experiment(method__name="tgkt", method__transfer={"ti": 0.0})
    with pytest.raises(MethodError, match=f"found {pairs}"):
        adapt_alone(tiny_network(), tiny_network(), site_data(pairs=pairs), job, "site-00")


def test_weights_are_those_of_the_configuration() -> None:
    assert TranslatorWeights().model_dump().keys() == set(TERMS)


def test_the_translator_is_shown_target_images_only(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Tensor] = []
    forward = Bridge.forward

    def spy(self: Bridge, x: Tensor) -> Tensor:
        seen.append(x.detach().clone())
        return forward(self, x)

    monkeypatch.setattr(Bridge, "forward", spy)
    data = site_data()
    assert data.tr.pixels.ndim == 3  # one channel: a site has no colour image of the task
    assert set(vars(data)) == {"tr", "ti"}
    job = experiment(method__name="tgkt", method__trust="agreement", federation__rounds=2)
    adapt_alone(tiny_network(), tiny_network(), data, job, "site-00")
    assert len(seen) > 3 + 3
    assert all(torch.equal(x[:, :1].expand_as(x), x) for x in seen)
    # The colour halves of the pairs have channels of their own, and would show.
    assert not np.array_equal(data.ti.rgb.pixels[..., 0], data.ti.rgb.pixels[..., 1])


def test_colour_in_place_of_target_images_would_show(monkeypatch: pytest.MonkeyPatch) -> None:
    # The spy above can fail: with colour as task-relevant images the translator gets unlike channels.
    seen: list[bool] = []
    forward = Bridge.forward

    def spy(self: Bridge, x: Tensor) -> Tensor:
        seen.append(torch.equal(x[:, :1].expand_as(x), x))
        return forward(self, x)

    monkeypatch.setattr(Bridge, "forward", spy)
    job = experiment(method__name="tgkt")
    data = SiteData(rgb_images(12), site_data().ti)
    adapt(tiny_network(), tiny_network(), data, job, BRIDGE_ROUND, bridge=make_bridge(job, tiny_network()))
    assert not all(seen)
