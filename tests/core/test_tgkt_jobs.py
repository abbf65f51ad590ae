"""TGKT as a whole job: both stages in a row, and their draws."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from socket_core.engine import Segment, adapt, adapt_alone, make_bridge
from socket_core.errors import MethodError
from socket_core.methods.shot import Shot
from tests.core.builders import (
    ONE_ROUND,
    changed,
    experiment,
    site_data,
    snapshot,
    tiny_network,
)


@pytest.mark.parametrize("kind", ["unet", "paper"])
@pytest.mark.parametrize("exchange", ["shared", "local"])
def test_a_job_alone_is_its_rounds_of_both_stages(kind: str, exchange: str) -> None:
    section = {"width": 8, "kind": kind, "rounds": 2, "exchange": exchange}
    job = experiment(
        method__name="tgkt",
        method__translator=section,
        federation__rounds=4,
        federation__steps=2,
        method__trust="agreement",
    )
    alone, by_hand, source = tiny_network(), tiny_network(), tiny_network()
    rounds: list[tuple[int, int]] = []
    steps: list[tuple[int, int]] = []
    total = adapt_alone(
        alone,
        source,
        site_data(),
        job,
        "site-00",
        on_round=lambda *call: rounds.append(call),
        on_step=lambda *call: steps.append(call),
    )
    bridge = make_bridge(job, source)
    segments = [Segment("site-00", r, 2, 2, fresh=False, stage="bridge") for r in (1, 2)]
    segments += [Segment("site-00", 1, 2, 2, fresh=True), Segment("site-00", 2, 2, 2, fresh=False)]
    reports = [adapt(by_hand, source, site_data(), job, s, bridge=bridge) for s in segments]
    assert changed(snapshot(by_hand), snapshot(alone)) == set()
    assert (total.steps, total.visits) == (8, sum(r.visits for r in reports))
    assert total.losses == reports[-1].losses
    assert rounds == [(r, 4) for r in range(1, 5)]
    assert steps == [(i, 8) for i in range(1, 9)]


def test_the_trained_translator_is_the_one_that_teaches() -> None:
    results = []
    for steps in (0, 3):
        job = experiment(method__name="tgkt")
        bridge, network = make_bridge(job, tiny_network()), tiny_network()
        if steps:
            before = Segment("site-00", 1, steps, 1, fresh=False, stage="bridge")
            adapt(network, tiny_network(), site_data(), job, before, bridge=bridge)
        adapt(network, tiny_network(), site_data(), job, ONE_ROUND, bridge=bridge)
        results.append(snapshot(network))
    assert "backbone.0.0.weight" in changed(*results)


def test_stage_two_draws_what_other_methods_draw(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Tensor] = []
    terms = Shot.tr_terms

    def spy(self: Shot, logits: Tensor, index: Tensor) -> dict[str, Tensor]:
        seen.append(index)
        return terms(self, logits, index)

    monkeypatch.setattr(Shot, "tr_terms", spy)
    for name in ("socket", "tgkt"):
        job = experiment(method__name=name)
        adapt(tiny_network(), tiny_network(), site_data(), job, ONE_ROUND, bridge=make_bridge(job, tiny_network()))
    assert all(map(torch.equal, seen[:3], seen[3:]))
    assert len(seen) == 6


def test_a_translator_that_diverges_is_named() -> None:
    job = experiment(method__name="tgkt", method__translator={"width": 8, "lr": 1e30})
    with pytest.raises(MethodError, match="no longer finite") as caught:
        adapt_alone(tiny_network(), tiny_network(), site_data(), job, "site-00")
    assert caught.value.where == "tgmb"
    assert "method.translator.lr" in caught.value.remedy
