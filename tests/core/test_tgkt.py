"""TGKT: one step by hand, the teacher, when it falls silent, and how far predictions are trusted."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from socket_core.agreement import Predictor
from socket_core.config import BnPolicy
from socket_core.errors import MethodError
from socket_core.losses import information_maximisation
from socket_core.methods import build_method, needs_pairs
from socket_core.methods.shot import Shot
from socket_core.methods.tgkt import Tgkt
from tests.core.builders import (
    Fixed,
    bridge_for,
    changed,
    configured,
    experiment,
    snapshot,
    ti_batch,
    tiny_network,
    tr_batch,
    tr_loader,
)

TERMS = ("kl", "ti", "pl", "im", "bn")
WEIGHTS = {"kl": 0.7, "ti": 2.0, "pl": 0.3, "im": 0.9, "bn": 0.2}


def _tgkt(on: tuple[str, ...] = TERMS, kind: str = "unet", policy: BnPolicy = "local", **values: Any) -> Tgkt:
    transfer = {name: WEIGHTS[name] if name in on else 0.0 for name in TERMS}
    section = {"width": 8, "kind": kind}
    cfg = experiment(method__name="tgkt", method__transfer=transfer, method__translator=section, **values).method
    source = tiny_network()
    method = build_method(cfg, policy)
    assert isinstance(method, Tgkt)
    method.configure(tiny_network(), source, bridge_for(cfg, source))
    return method


def _ready(method: Tgkt) -> Tgkt:
    method.check()
    method.begin(tr_loader())
    method.refresh(tr_loader())
    return method


def _images() -> Tensor:
    return tr_loader().batch(np.arange(12))


def _teacher(method: Tgkt) -> Tensor:
    """The source's word on the translated images, one image at a time, in float64."""
    source, bridge = tiny_network().eval().double(), method.bridge.eval().double()
    with torch.no_grad():
        out = torch.cat([source(bridge(x[None].double())).softmax(1) for x in _images()])
    bridge.float()
    return out


def _step(method: Tgkt) -> dict[str, Tensor]:
    return {k: v.detach() for k, v in method.step(tr_batch(), ti_batch(method.source)).items()}


def _by_hand(method: Tgkt) -> dict[str, float]:
    network, tr, ti = tiny_network().train(), tr_batch(), ti_batch(method.source)
    recorded: list[Tensor] = []
    layers = [m for m in network.backbone.modules() if isinstance(m, nn.BatchNorm2d)]
    hooks = [m.register_forward_hook(lambda _m, args, _out: recorded.append(args[0].clone())) for m in layers]
    with torch.no_grad():
        p = network(tr.x).softmax(1).double().numpy()
        for hook in hooks:
            hook.remove()
        features = network.features(ti.x)
    moments = 0.0
    frozen = [m for m in tiny_network().backbone.modules() if isinstance(m, nn.BatchNorm2d)]
    for i, (x, layer) in enumerate(zip(recorded, frozen, strict=True)):
        assert layer.running_mean is not None
        assert layer.running_var is not None
        mean, var = x.mean((0, 2, 3)), x.var((0, 2, 3), correction=0)
        distance = (mean - layer.running_mean).norm() + (var - layer.running_var).norm()
        moments += (10 if i == 0 else 1) * float(distance)
    q, mean_p = _teacher(method)[tr.index].numpy(), p.mean(0)
    return {
        "kl": float((q * np.log(q / p)).sum(1).mean()),
        "ti": float(((features - ti.source_features) ** 2).mean()),
        "pl": -float(np.log(p[np.arange(5), method.labels[tr.index].numpy()]).mean()),
        "im": -float((p * np.log(p)).sum(1).mean()) + float((mean_p * np.log(mean_p)).sum()),
        "bn": moments,
    }


def test_one_step_by_hand() -> None:
    method = _ready(_tgkt())
    terms, hand = _step(method), _by_hand(method)
    assert terms.keys() == set(TERMS)
    for name in TERMS:
        assert float(terms[name]) == pytest.approx(WEIGHTS[name] * hand[name], rel=1e-3), name


@pytest.mark.parametrize("on", [c for n in range(1, 6) for c in combinations(TERMS, n)], ids="-".join)
def test_a_weight_of_zero_switches_its_term_off(on: tuple[str, ...]) -> None:
    # Regression: with kl 0 there is no teacher, and the refresh asked for its trust.
    terms, full = _step(_ready(_tgkt(on))), _step(_ready(_tgkt()))
    assert terms.keys() == set(on)
    assert all(torch.equal(value, full[name]) for name, value in terms.items())


def test_all_terms_off_are_refused() -> None:
    with pytest.raises(MethodError, match="weight 0"):
        _tgkt(()).check()


def test_by_default_the_terms_of_socket_are_on_as_well() -> None:
    method, _, _ = configured(experiment(method__name="tgkt").method)
    assert isinstance(method, Tgkt)
    _ready(method)
    assert _step(method).keys() == {"kl", "ti", "pl", "im", "bn"}


def test_a_translator_is_needed() -> None:
    method = build_method(experiment(method__name="tgkt").method, "local")
    with pytest.raises(MethodError, match="no translator was given"):
        method.configure(tiny_network(), tiny_network())


@pytest.mark.parametrize(
    ("kind", "ti", "needed"), [("unet", 0.0, True), ("replicate", 0.0, False), ("replicate", 1.0, True)]
)
def test_pairs_are_needed_for_features_or_for_the_translator(kind: str, ti: float, needed: bool) -> None:
    section = {"kind": kind, "width": 8}
    cfg = experiment(method__name="tgkt", method__translator=section, method__transfer={"ti": ti}).method
    assert needs_pairs(cfg) == needed


# --- the teacher


class _Uneven:
    """The images of :func:`tr_loader` in batches of 5."""

    def chunks(self, size: int = 256, *, shuffled: bool = False) -> Iterator[Tensor]:
        order = torch.randperm(12, generator=torch.Generator().manual_seed(0)) if shuffled else torch.arange(12)
        return iter(_images()[order].split(5))


@pytest.mark.parametrize("pool", [tr_loader(), _Uneven()], ids=["one batch", "uneven batches"])
@pytest.mark.parametrize("kind", ["unet", "replicate"])
def test_the_cached_teacher_is_the_source_on_translated_images(kind: str, pool: Any) -> None:
    method = _tgkt(kind=kind)
    method.begin(pool)
    assert not method.teacher.requires_grad
    assert torch.allclose(method.teacher.double(), _teacher(method), atol=1e-4)


def test_without_a_translator_the_teacher_is_the_source_on_the_image_as_it_is() -> None:
    method = _tgkt(kind="replicate")
    method.begin(tr_loader())
    with torch.no_grad():
        assert torch.equal(method.teacher, tiny_network().eval()(_images()).softmax(1))


@pytest.mark.parametrize("pool", [tr_loader(), _Uneven()], ids=["one batch", "uneven batches"])
def test_a_translator_with_batchnorm_takes_the_statistics_of_the_sites_images(pool: Any) -> None:
    method = _tgkt(kind="paper")
    state = snapshot(method.bridge)
    method.begin(pool)
    x = _images()[:, :1].double()
    hidden = x * state["translator.0.weight"].double().view(1, 8, 1, 1) + state["translator.0.bias"].view(1, 8, 1, 1)
    after = snapshot(method.bridge)
    assert changed(state, after) == {
        f"translator.1.{k}" for k in ("running_mean", "running_var", "num_batches_tracked")
    }
    assert torch.allclose(after["translator.1.running_mean"].double(), hidden.mean((0, 2, 3)), atol=1e-5)
    assert torch.allclose(after["translator.1.running_var"].double(), hidden.var((0, 2, 3)), rtol=1e-2)
    assert torch.allclose(method.teacher.double(), _teacher(method), atol=1e-3)


def test_a_step_moves_the_target_and_neither_translator_nor_source() -> None:
    method = _ready(_tgkt())
    before = snapshot(method.bridge), snapshot(method.source)
    torch.stack(list(method.step(tr_batch(), ti_batch(method.source)).values())).sum().backward()
    assert method.learner() is method.target
    reached = {name for name, p in method.target.named_parameters() if p.grad is not None}
    assert {name.split(".")[0] for name in reached} == {"backbone", "bottleneck"}
    method.optimiser().step(1.0)
    assert not any(p.requires_grad for part in (method.bridge, method.source) for p in part.parameters())
    assert changed(before[0], snapshot(method.bridge)) == set()
    assert changed(before[1], snapshot(method.source)) == set()


# --- trust


def _agreeing(probe: Fixed, **values: Any) -> Tgkt:
    method = _tgkt(method__trust="agreement", **values)
    method.probe = probe
    return _ready(method)


@pytest.mark.parametrize(
    ("teacher", "pupil", "teaches"), [(0.3, 0.4, False), (0.4, 0.3, True), (0.3, 0.3, True), (-0.2, -0.1, False)]
)
def test_the_teacher_falls_silent_once_its_pupil_agrees_better(teacher: float, pupil: float, teaches: bool) -> None:
    method = _agreeing(Fixed(teacher, pupil))
    terms, full = _step(method), _step(_ready(_tgkt()))
    assert torch.equal(terms["kl"], full["kl"] if teaches else torch.zeros(()))
    assert all(torch.equal(terms[name], full[name]) for name in ("ti", "pl", "im", "bn"))


def test_the_teacher_may_speak_again() -> None:
    method = _agreeing(Fixed(0.3, 0.4, 0.2))
    assert method.teaches == 0.0
    method.refresh(tr_loader())
    assert method.teaches == 1.0


def test_the_frozen_teacher_is_asked_once_a_round_and_the_pupil_once_a_refresh() -> None:
    asked: list[Predictor] = []

    class Counting(Fixed):
        def agreement(self, predict: Predictor) -> float:
            asked.append(predict)
            return 0.5

    method = _agreeing(Counting())
    method.refresh(tr_loader())
    assert asked == [method._teach, method.target, method.target]


def test_teacher_and_pupil_are_compared_by_what_they_say() -> None:
    asked: list[Tensor] = []

    class Asking(Fixed):
        def agreement(self, predict: Predictor) -> float:
            asked.append(predict(_images()))
            return 0.5

    method = _agreeing(Asking())
    with torch.no_grad():
        pupil = tiny_network().eval()(_images())
    assert torch.allclose(asked[0].softmax(1).double(), _teacher(method), atol=1e-4)
    assert torch.allclose(asked[1], pupil, atol=1e-4)


def test_trust_scales_the_terms_that_trust_predictions() -> None:
    terms, full = _step(_agreeing(Fixed(trust=0.25))), _step(_ready(_tgkt()))
    for name in TERMS:
        factor = 0.25 if name in ("kl", "pl", "im") else 1.0
        assert float(terms[name]) == pytest.approx(factor * float(full[name]), rel=1e-6), name


@pytest.mark.parametrize("name", ["shot", "socket"])
def test_trust_scales_what_other_methods_trust(name: str) -> None:
    results = []
    for trust in ("always", "agreement"):
        method, _, source = configured(experiment(method__name=name, method__trust=trust).method)
        method.probe = Fixed(trust=0.25)
        method.refresh(tr_loader())
        results.append({k: float(v.detach()) for k, v in method.step(tr_batch(), ti_batch(source)).items()})
    full, terms = results
    assert terms.keys() == full.keys()
    for key, value in full.items():
        assert terms[key] == pytest.approx(value * (0.25 if key in ("im", "pl") else 1.0), rel=1e-6)
    assert full["pl"] > 0


# --- the prior


def test_an_estimated_prior_is_half_of_what_the_network_says() -> None:
    method, target, _ = configured(experiment(method__name="shot", method__prior="estimated").method)
    assert isinstance(method, Shot)
    method.refresh(tr_loader())
    with torch.no_grad():
        mean = tiny_network().eval()(_images()).softmax(1).mean(0)
    assert method.prior is not None
    assert torch.allclose(method.prior, 0.5 * mean + 0.5 / 3, atol=1e-4)
    assert float(method.prior.sum()) == pytest.approx(1.0)
    with torch.no_grad():
        logits = tiny_network().train()(tr_batch().x)
    value = method.step(tr_batch(), None)["im"].detach()
    p, prior = logits.softmax(1).numpy().astype(np.float64), method.prior.numpy()
    expected = -(p * np.log(p)).sum(1).mean() + (p.mean(0) * np.log(p.mean(0) / prior)).sum()
    assert float(value) == pytest.approx(expected, rel=1e-3)
    assert float(value) != pytest.approx(float(information_maximisation(logits)) + np.log(3), rel=1e-3)


def test_a_prior_needs_no_pseudo_labels() -> None:
    job = experiment(method__name="shot", method__prior="estimated", method__weights={"pl": 0.0})
    method, _, _ = configured(job.method)
    assert isinstance(method, Shot)
    method.refresh(tr_loader())
    assert method.prior is not None
    assert method.step(tr_batch(), None).keys() == {"im"}
    plain, _, _ = configured(experiment(method__name="shot").method)
    plain.refresh(tr_loader())
    assert isinstance(plain, Shot)
    assert plain.prior is None
