"""The adaptation loop: what determines its result, what it reports, and when it stops."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from socket_core.engine import Segment, adapt, adapt_alone, pick_device
from socket_core.errors import MethodError
from socket_core.methods.base import Pool
from socket_core.methods.shot import Shot
from socket_core.reading import Reading
from tests.core.builders import (
    CPU,
    PUBLISHED,
    adapt_tiny,
    changed,
    experiment,
    record_steps,
    segment_of,
    site_data,
    snapshot,
    tiny_network,
)

# --- what determines the result ---------------------------------------------------------------------


@pytest.mark.parametrize("name", ["shot", "socket"])
def test_the_same_seed_gives_the_same_bits(name: str) -> None:
    first, second = (adapt_tiny(method__name=name) for _ in range(2))
    assert changed(first[0], second[0]) == set()
    assert first[1] == second[1]


@pytest.mark.parametrize(
    ("segment", "seed"),
    [(segment_of("site-01"), 0), (segment_of(round_=2), 0), (segment_of(), 1)],
    ids=["site", "round", "seed"],
)
def test_another_site_round_or_seed_gives_another_result(segment: Segment, seed: int) -> None:
    assert "backbone.0.0.weight" in changed(adapt_tiny()[0], adapt_tiny(segment, seed=seed)[0])


def test_every_site_and_round_draws_its_own_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = record_steps(monkeypatch)
    for segment in (segment_of(), segment_of("site-01"), segment_of(round_=2)):
        adapt_tiny(segment)
    orders = [tuple(torch.cat([tr.index for tr, _, _ in seen[i : i + 3]]).tolist()) for i in (0, 3, 6)]
    assert len(set(orders)) == 3


def test_global_random_state_neither_matters_nor_moves() -> None:
    results = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        np.random.seed(seed)
        before = torch.random.get_rng_state(), repr(np.random.get_state())
        results.append(adapt_tiny()[0])
        assert torch.equal(torch.random.get_rng_state(), before[0])
        assert repr(np.random.get_state()) == before[1]  # the position is part of it
    assert changed(*results) == set()


def test_a_segment_that_is_not_fresh_keeps_the_statistics_it_finds() -> None:
    fresh, later = (adapt_tiny(segment_of(fresh=f), method__name="adabn")[0] for f in (True, False))
    assert changed(snapshot(tiny_network()), later) == set()
    assert changed(snapshot(tiny_network()), fresh)


@pytest.mark.parametrize(("fresh", "passes"), [(True, 1 + 3), (False, 7 + 3)])
def test_training_begins_with_adabn_only_when_fresh(fresh: bool, passes: int) -> None:
    state, _ = adapt_tiny(segment_of(fresh=fresh))
    assert int(state["bottleneck.1.num_batches_tracked"]) == passes


def test_the_mode_of_the_network_before_does_not_matter() -> None:
    results = []
    for training in (True, False):
        network = tiny_network().train(training)
        adapt(network, tiny_network().train(training), site_data(), experiment(), segment_of())
        results.append(snapshot(network))
    assert changed(*results) == set()


# --- steps and reports ------------------------------------------------------------------------------


def test_losses_are_means_of_the_weighted_terms(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = record_steps(monkeypatch)
    _, report = adapt_tiny()
    assert report.losses.keys() == {"pl", "im", "bn", "ti"}
    for name, value in report.losses.items():
        assert value == pytest.approx(float(torch.stack([terms[name] for _, _, terms in seen]).mean()), rel=1e-5)


def test_every_step_is_reported_to_the_caller() -> None:
    calls: list[tuple[int, int]] = []
    network = tiny_network()
    adapt(network, tiny_network(), site_data(), experiment(), segment_of(), on_step=lambda a, b: calls.append((a, b)))
    assert calls == [(1, 3), (2, 3), (3, 3)]


@pytest.mark.parametrize(("batch", "tr", "ti"), [(6, 6, 6), (8, 8, 8), (64, 12, 8)])
def test_a_batch_is_never_larger_than_the_set(monkeypatch: pytest.MonkeyPatch, batch: int, tr: int, ti: int) -> None:
    seen = record_steps(monkeypatch)
    _, report = adapt_tiny(method__batch=batch)
    assert [(len(a.x), len(b.x)) for a, b, _ in seen] == [(tr, ti)] * 3
    assert (report.steps, report.visits) == (3, 3 * (tr + ti))


def test_the_smallest_site_can_train() -> None:
    for policy in ("local", "source", "pooled"):
        _, report = adapt_tiny(data=site_data(2, 2), federation__bn_policy=policy, method__ti_views=1, **PUBLISHED)
        assert report.steps == 3


@pytest.mark.parametrize(("every", "at"), [(None, [0, 2, 4, 6]), (5, [0, 5]), (100, [0])])
def test_pseudo_labels_are_refreshed_about_once_an_epoch(
    monkeypatch: pytest.MonkeyPatch, every: int | None, at: list[int]
) -> None:
    done, refreshed = [0], []
    refresh = Shot.refresh

    def spy(self: Shot, pool: Pool, seen: Reading | None = None) -> None:
        refreshed.append(done[-1])
        refresh(self, pool, seen)

    monkeypatch.setattr(Shot, "refresh", spy)
    adapt(
        tiny_network(),
        tiny_network(),
        site_data(),
        experiment(method__name="shot", method__refresh_every=every),
        segment_of(steps=7),
        on_step=lambda step, _: done.append(step),
    )
    assert refreshed == at  # 12 images in batches of 6


@pytest.mark.parametrize("name", ["shot", "socket"])
def test_a_loss_that_is_not_finite_is_an_error(name: str) -> None:
    with pytest.raises(MethodError, match="no longer finite") as caught:
        adapt_tiny(method__name=name, method__lr=1e30)
    assert caught.value.where == name
    assert "method.lr" in caught.value.remedy


def test_training_lowers_the_loss() -> None:
    losses = []
    for steps in (1, 30):
        _, report = adapt_tiny(
            segment_of(steps=steps), method__batch=12, method__lr=0.02, method__backbone_lr_scale=1.0
        )
        losses.append(sum(report.losses.values()))
    assert losses[1] < losses[0]


@pytest.mark.parametrize("name", ["adabn", "shot", "socket"])
def test_a_job_alone_is_its_rounds_one_after_the_other(name: str) -> None:
    job = experiment(method__name=name, federation__rounds=3, federation__steps=2)
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
    count = 1 if name == "adabn" else 3  # more rounds of AdaBN would change nothing
    reports = [
        adapt(by_hand, source, site_data(), job, Segment("site-00", r, 2, count, fresh=r == 1))
        for r in range(1, count + 1)
    ]
    assert changed(snapshot(by_hand), snapshot(alone)) == set()
    assert (total.steps, total.visits) == (sum(r.steps for r in reports), sum(r.visits for r in reports))
    assert total.losses == reports[-1].losses
    assert rounds == [(r, count) for r in range(1, count + 1)]
    assert steps == ([] if name == "adabn" else [(i, 6) for i in range(1, 7)])


# --- devices ----------------------------------------------------------------------------------------


def test_auto_is_the_cpu_where_there_is_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert pick_device("auto") == CPU == pick_device("cpu")


@pytest.mark.parametrize("name", ["cuda", "cuda:1"])
def test_a_gpu_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(MethodError, match="no GPU") as caught:
        pick_device(name)
    assert caught.value.remedy
