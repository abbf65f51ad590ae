"""DP for the translator of TGMB: per-record gradients, what is charged, and what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from socket_core.batchnorm import bn_mode
from socket_core.config import Experiment
from socket_core.engine import Segment, adapt, adapt_alone, make_bridge
from socket_core.errors import ConfigError
from socket_core.methods.tgmb import Tgmb
from socket_core.privacy.accounting import Event, epsilon
from socket_core.privacy.dp_step import DpStep
from socket_core.privacy.plan import event_of, planned_steps
from socket_core.privacy.records import Records
from socket_core.privacy.simulated import simulated_budget
from tests.core.builders import CPU, changed, site_data, snapshot, tiny_network
from tests.privacy.builders import Purse, private

BRIDGE_ROUND = Segment("site-00", round=1, steps=3, rounds=1, fresh=False, stage="bridge")


def job(**values: Any) -> Experiment:
    """Three rounds of three steps of TGMB + TGKT, the first of them for the translator."""
    translator = {"width": 8, "weights": {"rec": 0.7, "features": 3.0, "domain": 0.0, "im": 0.1}}
    given = {"method__name": "tgkt", "method__translator": translator, "federation__rounds": 3} | values
    return private(**given)


@pytest.mark.parametrize("kind", ["unet", "paper"])
def test_per_record_gradients_are_those_of_one_record_at_a_time(kind: str) -> None:
    own = job(method__translator__kind=kind)
    method, source = Tgmb(own.method, "local"), tiny_network()
    bridge = make_bridge(own, source)
    assert bridge is not None
    method.configure(tiny_network(), source, bridge)
    step = DpStep(method, Records(site_data().ti, source, own, CPU, with_rgb=True), own, 3)
    with bn_mode(bridge, "frozen"):
        found = step.gradients(np.arange(5, dtype=np.int64))
        for position in range(5):
            x, features, rgb = step._records.batch(np.array([position]))
            bridge.zero_grad()
            out = bridge(x[0])
            distance = ((source.features(out) - features[0]) ** 2).mean()
            (0.7 * ((out - rgb[0]) ** 2).mean() + 3.0 * distance).backward()
            expected = {n: p.grad for n, p in bridge.named_parameters() if n.startswith("translator.")}
            assert expected.keys() == found.keys()
            # Against the largest of all: a bias before GroupNorm of one channel has no gradient but rounding.
            largest = max(float(g.abs().max()) for g in expected.values() if g is not None)
            for name, gradient in expected.items():
                torch.testing.assert_close(found[name][position], gradient, rtol=1e-4, atol=1e-4 * largest)


def test_a_translators_round_is_charged_and_changes_the_translator_alone() -> None:
    own, purse, network = job(), Purse(), tiny_network()
    bridge = make_bridge(own, network)
    assert bridge is not None
    before, before_bridge = snapshot(network), snapshot(bridge)
    report = adapt(network, tiny_network(), site_data(), own, BRIDGE_ROUND, bridge=bridge, budget=purse)
    assert purse.charged == [Event(1.0, 0.5, 3)]
    assert set(report.losses) == {"im"}  # of TR images; nothing of the pairs is told
    assert not changed(before, snapshot(network))
    moved = changed(before_bridge, snapshot(bridge))
    assert moved
    assert all(name.startswith("translator.") for name in moved)


def test_both_stages_share_one_budget() -> None:
    own = job(privacy={"epsilon": 3.0, "sample_rate": 0.5, "expected_batch": 4})
    assert planned_steps(own) == 9
    with simulated_budget(site_data().ti, own) as budget:
        assert budget is not None
        adapt_alone(tiny_network(), tiny_network(), site_data(), own, "site-00", budget=budget)
        charges = budget.ledger.charges()
    assert [c.event.steps for c in charges] == [3, 3, 3]
    assert [c.about["scope"] for c in charges] == ["translator", "bottleneck", "bottleneck"]
    assert epsilon([c.event for c in charges], 1e-5).claim == pytest.approx(
        epsilon([event_of(own, 9)], 1e-5).claim, abs=1e-9
    )


def test_a_transfer_without_pairs_charges_the_translator_alone() -> None:
    own, purse = job(method__transfer__ti=0.0), Purse()
    assert planned_steps(own) == 3
    adapt_alone(tiny_network(), tiny_network(), site_data(), own, "site-00", budget=purse)
    assert purse.charged == [Event(1.0, 0.5, 3)]


def test_the_term_that_compares_sets_of_pairs_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"translator\.weights\.domain"):
        job(method__translator__weights={"domain": 0.1})
