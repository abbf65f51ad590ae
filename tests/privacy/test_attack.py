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
from socket_core.privacy.membership import Reals, roc
from socket_core.privacy.records import Records
from tests.core.builders import CPU, PREP, changed, depth_images, experiment, snapshot, tiny_network, two_networks
from tests.core.builders import twin_pairs as pairs
from tests.privacy.builders import private

JOB = experiment()
SPECS = travelling_specs(tiny_network(), "local")
START = flatten(parameters_of(tiny_network()), SPECS)
LR = 1e-3


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


def area(members: list[dict[str, Reals]], others: list[dict[str, Reals]], score: str) -> float:
    return roc(*(sum(each[score] for each in found) for found in (members, others)), resamples=1).auc


# --- what was planted ---------------------------------------------------------------------------------


def test_a_change_made_of_members_alone_gives_them_away() -> None:
    members, others = depth_images(10, 1), depth_images(10, 2)
    change = -LR * np.sum([tr_gradient(members, i) for i in range(10)], axis=0)
    seen = [Seen(START, change)]
    inside, outside = attacker().tr(members, seen), attacker().tr(others, seen)
    assert min(area(inside, outside, score) for score in SCORES) > 0.9
    assert area(inside, outside, CONTROL) < 0.9, "and the source alone does not"


def test_pairs_that_a_change_was_made_of_are_given_away() -> None:
    members, others = pairs(10, 1), pairs(10, 7)
    change = -LR * np.sum([ti_gradient(members, i) for i in range(10)], axis=0)
    seen = [Seen(START, change)]
    inside, outside = attacker().ti(members, seen), attacker().ti(others, seen)
    assert min(area(inside, outside, score) for score in SCORES) > 0.9


@pytest.mark.parametrize("kind", ["tr", "ti"])
def test_an_unrelated_change_tells_nothing(kind: str) -> None:
    change = np.random.default_rng(0).normal(0, 1e-3, len(START)).astype(np.float32)
    seen, attack = [Seen(START, change)], attacker()
    if kind == "tr":
        inside, outside = (attack.tr(depth_images(40, seed), seen)[0] for seed in (1, 2))
    else:
        inside, outside = (attack.ti(pairs(40, seed), seen)[0] for seed in (1, 7))
    for score in SCORES:
        found = roc(inside[score], outside[score], resamples=500)
        assert found.auc_low <= 0.5 <= found.auc_high


# --- the scores themselves ----------------------------------------------------------------------------


@pytest.mark.parametrize(("sign", "expected"), [(-1, 1.0), (1, -1.0), (0, 0.0)])
def test_the_alignment_of_an_image_with_its_own_gradient(sign: int, expected: float) -> None:
    images = depth_images(3, 1)
    (found,) = attacker().tr(images, [Seen(START, sign * tr_gradient(images, 1))])
    assert found["alignment"][1] == pytest.approx(expected, abs=1e-4)


def test_the_alignment_of_a_pair_with_its_own_gradient() -> None:
    own = pairs(3, 1)
    (found,) = attacker().ti(own, [Seen(START, -ti_gradient(own, 2))])
    assert found["alignment"][2] == pytest.approx(1, abs=1e-4)


def test_the_loss_drop_is_that_of_the_losses_before_and_after() -> None:
    images, change = depth_images(3, 1), -0.01 * tr_gradient(depth_images(3, 1), 0)
    first, second = attacker().tr(images, [Seen(START, change), Seen(START + change, np.zeros_like(change))])
    assert second["loss_drop"].tolist() == [0, 0, 0]
    assert first["loss_drop"][0] > 0
    # Pseudo-labels are those before the change; here it moves none.
    assert first["loss_drop"] == pytest.approx(second[CONTROL] - first[CONTROL], abs=1e-5)


def test_under_dp_the_pairs_are_sought_where_their_steps_have_been() -> None:
    own, job = pairs(3, 1), private(privacy__scope="bottleneck")
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
    images, change = depth_images(6, 1), -LR * tr_gradient(depth_images(6, 1), 0)
    (whole,), (part,) = (attacker().tr(some, [Seen(START, change)]) for some in (images, images.take(np.array([4, 2]))))
    for score in (*SCORES, CONTROL):
        assert whole[score][[4, 2]] == pytest.approx(part[score], abs=1e-5)


# --- what the attacker knows --------------------------------------------------------------------------


def test_the_source_keeps_its_values_and_without_a_change_there_is_nothing_to_see() -> None:
    source = tiny_network()
    before = snapshot(source)
    attack = Attacker(source, JOB)
    change = np.full_like(START, 0.01)
    attack.tr(depth_images(3, 1), [Seen(START, change)])
    attack.ti(pairs(3, 1), [Seen(START, change)])
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
    (ti,) = attack.ti(pairs(3, 1), [Seen(start, tilt)])
    assert ti["loss_drop"].tolist() == [0, 0, 0], "features know no mixing"
