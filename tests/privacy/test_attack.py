"""The attack finds what was planted, finds nothing where nothing is, and knows no more than an owner does."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from socket_core.batchnorm import bn_mode
from socket_core.config import Experiment
from socket_core.data.loader import Loader
from socket_core.data.types import Images, Pairs
from socket_core.exchange import Flat, flatten, parameters_of, travelling_specs
from socket_core.models import Model
from socket_core.privacy.attack import CONTROL, SCORES, Attacker, Seen
from socket_core.privacy.membership import roc
from socket_core.privacy.records import Records
from tests.core.builders import (
    CPU,
    PREP,
    changed,
    depth_images,
    experiment,
    site_data,
    snapshot,
    tiny_network,
    two_networks,
)
from tests.privacy.builders import private

JOB = experiment()
SPECS = travelling_specs(tiny_network(), "local")
START = flatten(parameters_of(tiny_network()), SPECS)
IMAGES, PAIRS = depth_images(6, 1), site_data(2, 6).ti


def own_gradient(network: Model, loss: Callable[[], Tensor]) -> Flat:
    """By plain autograd, under the network's own running statistics; also for tensors that do not take part."""
    network.requires_grad_(True)
    with bn_mode(network, "frozen"):
        named = dict(network.named_parameters())
        keys = [key for key, _ in SPECS]
        found = torch.autograd.grad(loss(), [named[key] for key in keys], allow_unused=True)
    return flatten({k: torch.zeros_like(named[k]) if g is None else g for k, g in zip(keys, found, strict=True)}, SPECS)


def tr_gradient(images: Images, index: int) -> Flat:
    """Of an image's entropy and its cross-entropy to its own pseudo-label, with the defaults' weights 1 and 0.3."""
    network, x = tiny_network().eval(), Loader(images, PREP, CPU).batch(np.array([index]))

    def loss() -> Tensor:
        logits: Tensor = network(x)
        p = logits.softmax(1)
        return -(p * p.log()).sum() + 0.3 * F.cross_entropy(logits, logits.argmax(1))

    return own_gradient(network, loss)


def ti_gradient(own: Pairs, index: int, job: Experiment = JOB) -> Flat:
    network = tiny_network().eval()
    x, aim = Records(own, tiny_network().eval(), job, CPU).batch(np.array([index]))
    return own_gradient(network, lambda: ((network.features(x[0]) - aim[0]) ** 2).mean())


def attacker(job: Experiment = JOB) -> Attacker:
    return Attacker(tiny_network(), job)


def downhill(gradient: Flat, size: float = 1e-5) -> Flat:
    """A step so short that losses are straight along it: the last layer of the tiny network multiplies by 300."""
    return -size * gradient / np.float32(np.linalg.norm(gradient))


# --- what was planted ---------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["tr", "ti"])
def test_a_change_made_of_a_member_alone_gives_it_away(kind: str) -> None:
    """One game for each image: the change is a step down its own loss, and all others are candidates beside it."""
    count, attack = 6, attacker()
    own = [tr_gradient(IMAGES, i) if kind == "tr" else ti_gradient(PAIRS, i) for i in range(count)]
    games = [Seen(START, downhill(gradient)) for gradient in own]
    found = attack.tr(IMAGES, games) if kind == "tr" else attack.ti(PAIRS, games)
    member = np.eye(count, dtype=bool)
    areas = {}
    for score in SCORES:
        scores = np.stack([each[score] for each in found])
        areas[score] = roc(scores[member], scores[~member], resamples=1).auc
    assert areas["alignment"] == 1.0, "nobody is nearer to a gradient than the image whose it is"
    # A candidate with a steeper loss may fall further than the member, so this one is no certainty.
    assert areas["loss_drop"] > 0.7


@pytest.mark.parametrize("kind", ["tr", "ti"])
def test_an_unrelated_change_tells_nothing(kind: str) -> None:
    change = np.random.default_rng(0).normal(0, 1e-3, len(START)).astype(np.float32)
    seen, attack = [Seen(START, change)], attacker()
    if kind == "tr":
        inside, outside = (attack.tr(depth_images(40, seed), seen)[0] for seed in (1, 2))
    else:
        inside, outside = (attack.ti(site_data(2, 40, seed).ti, seen)[0] for seed in (1, 2))
    for score in SCORES:
        found = roc(inside[score], outside[score], resamples=500)
        assert found.auc_low <= 0.5 <= found.auc_high


# --- the scores themselves ----------------------------------------------------------------------------


@pytest.mark.parametrize(("sign", "expected"), [(-1, 1.0), (1, -1.0), (0, 0.0)])
def test_the_alignment_of_an_image_with_its_own_gradient(sign: int, expected: float) -> None:
    (found,) = attacker().tr(IMAGES, [Seen(START, sign * tr_gradient(IMAGES, 1))])
    assert found["alignment"][1] == pytest.approx(expected, abs=1e-4)


def test_the_alignment_of_a_pair_with_its_own_gradient() -> None:
    (found,) = attacker().ti(PAIRS, [Seen(START, -ti_gradient(PAIRS, 2))])
    assert found["alignment"][2] == pytest.approx(1, abs=1e-4)


def test_the_loss_drop_is_that_of_the_losses_before_and_after() -> None:
    change, gradient = downhill(tr_gradient(IMAGES, 0)), tr_gradient(IMAGES, 0)
    first, second = attacker().tr(IMAGES, [Seen(START, change), Seen(START + change, np.zeros_like(change))])
    assert not second["loss_drop"].any()
    # Pseudo-labels are those before the change; so short a step moves none.
    assert first["loss_drop"] == pytest.approx(second[CONTROL] - first[CONTROL], abs=1e-6)
    assert first["loss_drop"][0] == pytest.approx(1e-5 * np.linalg.norm(gradient), rel=0.05)


def test_under_dp_the_pairs_are_sought_where_their_steps_have_been() -> None:
    own, job = PAIRS, private(privacy__scope="bottleneck")
    change = {key: torch.zeros(shape) for key, shape in SPECS}
    change["bottleneck.0.weight"] -= 1
    only = flatten(change, SPECS)
    change |= {key: torch.ones(shape) for key, shape in SPECS if not key.startswith("bottleneck.")}
    both = flatten(change, SPECS)
    (one,), (other,) = (attacker(job).ti(own, [Seen(START, delta)]) for delta in (only, both))
    assert one["alignment"] == pytest.approx(other["alignment"], abs=1e-6)
    (plain,) = attacker().ti(own, [Seen(START, both)])
    assert np.abs(plain["alignment"] - other["alignment"]).max() > 1e-3


def test_a_score_of_an_image_does_not_depend_on_the_others() -> None:
    seen = [Seen(START, downhill(tr_gradient(IMAGES, 0)))]
    (whole,), (part,) = (attacker().tr(some, seen) for some in (IMAGES, IMAGES.take(np.array([4, 2]))))
    for score in (*SCORES, CONTROL):
        assert whole[score][[4, 2]] == pytest.approx(part[score], abs=1e-5)


# --- what the attacker knows --------------------------------------------------------------------------


def test_the_source_keeps_its_values_and_without_a_change_there_is_nothing_to_see() -> None:
    source = tiny_network()
    before = snapshot(source)
    attack = Attacker(source, JOB)
    change = np.full_like(START, 0.01)
    attack.tr(depth_images(3, 1), [Seen(START, change)])
    attack.ti(PAIRS, [Seen(START, change)])
    assert not changed(before, snapshot(source))
    (found,) = attack.tr(depth_images(3, 1), [attack.unknowing()])
    assert found["alignment"].tolist() == found["loss_drop"].tolist() == [0, 0, 0]


def test_several_sources_are_attacked_together() -> None:
    both = two_networks()
    specs = travelling_specs(both, "local")
    start = flatten(parameters_of(both), specs)
    tilt = flatten({key: torch.arange(2.0) if key == "mixing" else torch.zeros(shape) for key, shape in specs}, specs)
    attack = Attacker(both, JOB)
    (tr,) = attack.tr(depth_images(3, 1), [Seen(start, tilt)])
    assert np.abs(tr["loss_drop"]).min() > 0
    assert np.abs(tr["alignment"]).min() > 0
    (ti,) = attack.ti(PAIRS, [Seen(start, tilt)])
    assert not ti["loss_drop"].any(), "features know no mixing"
