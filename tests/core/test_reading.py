"""One pass over the target set in eval mode: what it says, and that nobody makes it twice for the same weights."""

from __future__ import annotations

import pytest
import torch

from socket_core import engine, reading
from socket_core.batchnorm import bn_mode
from socket_core.engine import Segment, adapt, adapt_alone
from socket_core.methods import shot
from socket_core.models import Model
from socket_core.reading import Reading, read
from tests.core.builders import changed, experiment, site_data, snapshot, tiny_network, tr_loader, two_networks


@pytest.mark.parametrize("network", [tiny_network(), two_networks()], ids=["one source", "two sources"])
def test_a_reading_is_what_the_network_says_in_eval_mode(network: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    before = snapshot(network)
    monkeypatch.setattr(reading, "FEW", 5)
    found = read(network, tr_loader())
    x = torch.cat(list(tr_loader().chunks()))
    with torch.no_grad(), bn_mode(network, "frozen"):
        torch.testing.assert_close(found.features, network.features(x))
        torch.testing.assert_close(found.logits, network(x))
    assert len(found.logits) == 12
    assert not changed(before, snapshot(network))
    assert not found.logits.requires_grad


def _count(monkeypatch: pytest.MonkeyPatch, *, share: bool = True) -> list[Reading]:
    """Every pass that is made from now on; without ``share`` none is passed on."""
    made: list[Reading] = []

    def spy(*arguments: object) -> Reading:
        made.append(reading.read(*arguments))  # type: ignore[arg-type]  # whatever the caller gave
        return made[-1]

    for module in (engine, shot):
        monkeypatch.setattr(module, "read", spy)
    if not share:
        refresh = shot.Shot.refresh
        monkeypatch.setattr(shot.Shot, "refresh", lambda self, pool, seen=None: refresh(self, pool))
    return made


@pytest.mark.parametrize("method", ["shot", "socket", "tgkt"])
def test_the_validators_pass_serves_the_next_round(monkeypatch: pytest.MonkeyPatch, method: str) -> None:
    job = experiment(
        method__name=method,
        method__validator="im",
        method__refresh_every=100,
        federation__rounds=3,
        federation__steps=2,
    )
    states, passes = [], []
    for share in (True, False):
        with monkeypatch.context() as patch:
            made = _count(patch, share=share)
            network = tiny_network()
            adapt_alone(network, tiny_network(), site_data(), job, "site-00")
            states.append(snapshot(network))
            passes.append(len(made))
    assert not changed(*states)
    # Each round that adapts is scored; only the first of them has to ask before it begins.
    rounds = 2 if method == "tgkt" else 3
    assert passes == [rounds + 1, 2 * rounds]


@pytest.mark.parametrize("fresh", [True, False])
def test_the_anchors_pass_serves_the_first_refresh(monkeypatch: pytest.MonkeyPatch, fresh: bool) -> None:
    job = experiment(federation__alignment=0.5, method__refresh_every=2)
    segment = Segment("site-00", 1, 3, 2, fresh, federated=True)
    states, passes = [], []
    for share in (True, False):
        with monkeypatch.context() as patch:
            made = _count(patch, share=share)
            network = tiny_network()
            adapt(network, tiny_network(), site_data(), job, segment)
            states.append(snapshot(network))
            passes.append(len(made))
    assert not changed(*states)
    assert passes == [2, 3]  # at steps 0 and 2


def test_a_pass_made_before_the_statistics_moved_is_not_used() -> None:
    wrong = Reading(torch.zeros(12, 8), torch.zeros(12, 3))
    results = []
    for seen in (None, wrong):
        network = tiny_network()
        adapt(network, tiny_network(), site_data(), experiment(), Segment("site-00", 1, 3, 2, fresh=True), seen=seen)
        results.append(snapshot(network))
    assert not changed(*results)
