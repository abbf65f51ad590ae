"""Terms against client drift: what they hold on to, their gradients, and when they are on."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from socket_core import drift
from socket_core.batchnorm import bn_parameter_names
from socket_core.config import BnPolicy, FederationConfig
from socket_core.data.loader import Loader
from socket_core.drift import Anchor
from socket_core.engine import Segment, adapt, make_bridge
from socket_core.exchange import parameters_of, travelling_specs
from socket_core.methods.base import reestimate_batchnorm
from socket_core.methods.shot import Shot
from tests.core.builders import CPU, POLICIES, PREP, PUBLISHED, experiment, site_data, tiny_network

ROUND = Segment("site-00", round=1, steps=3, rounds=2, fresh=True, federated=True)
BOTH: dict[str, Any] = {"federation__proximal": 0.1, "federation__alignment": 0.5}


def _anchor(mu: float, weight: float = 0.0, policy: BnPolicy = "local") -> tuple[Anchor, dict[str, Tensor]]:
    network = tiny_network()
    parameters = parameters_of(network)
    keys = [key for key, _ in travelling_specs(network, policy)]
    start = {key: parameters[key].detach().clone() for key in keys}
    probabilities = torch.tensor([[0.2, 0.3, 0.5], [1.0, 0.0, 0.0], [0.6, 0.3, 0.1]])
    return Anchor(FederationConfig(proximal=mu, alignment=weight), parameters, start, probabilities), parameters


def test_the_pull_back_is_mu_times_the_way_gone() -> None:
    anchor, parameters = _anchor(0.3)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for p in parameters.values():
            p += 0.1 * torch.randn(p.shape, generator=generator)
    [(name, term)] = anchor.terms(torch.zeros(2, 3), torch.tensor([0, 1])).items()
    assert name == "proximal"
    gone = sum(float(((parameters[k].detach() - w0).double() ** 2).sum()) for k, w0 in anchor.start.items())
    assert float(term.detach()) == pytest.approx(0.3 * gone / 2, rel=1e-5)
    term.backward()
    for key, p in parameters.items():
        if key in anchor.start:
            assert p.grad is not None
            assert torch.allclose(p.grad, 0.3 * (p.detach() - anchor.start[key]), rtol=1e-5, atol=1e-8), key
        else:
            assert p.grad is None, key  # BatchNorm of the site's own, and the classifier


def test_at_the_start_of_a_round_nothing_pulls() -> None:
    anchor, parameters = _anchor(0.3)
    term = anchor.terms(torch.zeros(1, 3), torch.tensor([0]))["proximal"]
    term.backward()
    assert float(term.detach()) == 0.0
    assert all(float(parameters[k].grad.abs().max()) == 0.0 for k in anchor.start)  # type: ignore[union-attr]


def test_alignment_is_the_divergence_from_the_global_predictions() -> None:
    anchor, _ = _anchor(0.0, 2.0)
    logits, index = torch.tensor([[1.0, 0.0, -1.0], [0.5, 0.5, 2.0]]), torch.tensor([1, 2])
    terms = anchor.terms(logits, index)
    p = np.exp(logits.numpy()) / np.exp(logits.numpy()).sum(1, keepdims=True)
    expected = -np.log(p[0, 0]) + sum(q * np.log(q / p[1, k]) for k, q in enumerate((0.6, 0.3, 0.1)))
    assert terms.keys() == {"alignment"}
    assert float(terms["alignment"]) == pytest.approx(2.0 * expected / 2, rel=1e-5)


@pytest.mark.parametrize(("mu", "weight", "on"), [(0, 0, set()), (1, 0, {"proximal"}), (0, 1, {"alignment"})])
def test_a_weight_of_zero_switches_its_term_off(mu: float, weight: float, on: set[str]) -> None:
    anchor, _ = _anchor(mu, weight)
    assert anchor.terms(torch.zeros(1, 3), torch.tensor([0])).keys() == on
    assert drift.asked_for(anchor.weights) == bool(on)


def _seen(
    monkeypatch: pytest.MonkeyPatch, segment: Segment = ROUND, name: str = "shot", **values: Any
) -> tuple[list[dict[str, float]], list[Anchor | None]]:
    """Terms and anchors of the steps of a round."""
    terms: list[dict[str, float]] = []
    anchors: list[Anchor | None] = []
    original = Shot.tr_terms

    def spy(self: Shot, logits: Tensor, index: Tensor) -> dict[str, Tensor]:
        out = original(self, logits, index)
        terms.append({key: float(value.detach()) for key, value in out.items()})
        anchors.append(self.anchor)
        return out

    monkeypatch.setattr(Shot, "tr_terms", spy)
    job = experiment(method__name=name, federation__rounds=2, **{**BOTH, **values})
    source = tiny_network()
    report = adapt(tiny_network(), source, site_data(), job, segment, bridge=make_bridge(job, source))
    assert ("proximal" in report.losses) == ("proximal" in terms[0])
    return terms, anchors


@pytest.mark.parametrize("name", ["shot", "socket", "tgkt"])
def test_both_terms_are_on_in_a_federation(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    terms, _ = _seen(monkeypatch, name=name)
    assert all({"proximal", "alignment"} < step.keys() for step in terms)
    assert terms[0]["proximal"] == 0.0
    assert 0.0 < terms[1]["proximal"] < terms[2]["proximal"]
    assert all(step["alignment"] > 0 for step in terms)


def test_both_terms_are_off_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    terms, anchors = _seen(monkeypatch, Segment("site-00", 1, 3, 2, fresh=True))
    assert all(step.keys() == {"im", "pl"} for step in terms)
    assert anchors == [None] * 3


def test_no_anchor_is_made_where_no_weight_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    _, anchors = _seen(monkeypatch, federation__proximal=0.0, federation__alignment=0.0)
    assert anchors == [None] * 3


def test_a_translator_round_has_no_anchor() -> None:
    job = experiment(method__name="tgkt", **BOTH)
    segment = Segment("site-00", 1, 2, 1, fresh=False, stage="bridge", federated=True)
    bridge = make_bridge(job, tiny_network())
    report = adapt(tiny_network(), tiny_network(), site_data(), job, segment, bridge=bridge)
    assert not {"proximal", "alignment"} & report.losses.keys()


@pytest.mark.parametrize("policy", POLICIES)
def test_the_anchor_is_the_network_as_it_starts(monkeypatch: pytest.MonkeyPatch, policy: BnPolicy) -> None:
    values = {**PUBLISHED, "federation__bn_policy": policy}
    _, [anchor, *_] = _seen(monkeypatch, **values)
    assert anchor is not None
    network = tiny_network()
    keys = {key for key, _ in travelling_specs(network, policy)}
    assert anchor.start.keys() == keys
    assert bool(keys & bn_parameter_names(network)) == (policy != "local")
    assert all(torch.equal(value, parameters_of(network)[key]) for key, value in anchor.start.items())
    assert not any(torch.equal(anchor.parameters[k].detach(), v) for k, v in anchor.start.items() if "weight" in k)
    # No step yet: only the statistics are the target's, where the policy lets them.
    images = Loader(site_data().tr, PREP, CPU)
    if policy != "source":
        reestimate_batchnorm(network, images)
    with torch.no_grad():
        expected = network.eval()(images.batch(np.arange(12))).softmax(1)
    assert torch.allclose(anchor.probabilities, expected, atol=1e-3)


def test_the_pull_keeps_the_round_nearer(monkeypatch: pytest.MonkeyPatch) -> None:
    gone = []
    for mu in (0.0, 5.0):
        _, anchors = _seen(monkeypatch, federation__proximal=mu)
        last = anchors[-1]
        assert last is not None
        gone.append(sum(float(((last.parameters[k] - v) ** 2).sum().detach()) for k, v in last.start.items()))
    assert gone[1] < gone[0]
