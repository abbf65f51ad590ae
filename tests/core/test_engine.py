"""The adaptation loop: what determines its result, how it draws, and when it stops."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from socket_core import engine
from socket_core.data.loader import IndexStream, Loader, Preprocessing
from socket_core.data.types import Images, SiteData
from socket_core.engine import AdaptReport, Segment, adapt, adapt_alone, pick_device
from socket_core.errors import MethodError
from socket_core.methods.base import Pool, Terms, TiBatch, TrBatch
from socket_core.methods.shot import Shot
from socket_core.methods.socket import Socket
from socket_core.optimiser import NesterovSgd, lr_factor
from tests.core.builders import changed, depth_images, experiment, site_data, snapshot, tiny_network, twin_pairs

CPU = torch.device("cpu")
State = dict[str, Tensor]


def _segment(site: str = "site-00", round_: int = 1, steps: int = 3, rounds: int = 2, fresh: bool = True) -> Segment:
    return Segment(site, round_, steps, rounds, fresh)


def _adapt(segment: Segment | None = None, data: SiteData | None = None, **values: Any) -> tuple[State, AdaptReport]:
    network = tiny_network()
    report = adapt(network, tiny_network(), data or site_data(), experiment(**values), segment or _segment())
    return snapshot(network), report


# --- what determines the result ---------------------------------------------------------------------


@pytest.mark.parametrize("name", ["shot", "socket"])
def test_the_same_seed_gives_the_same_bits(name: str) -> None:
    first, second = (_adapt(method__name=name) for _ in range(2))
    assert changed(first[0], second[0]) == set()
    assert first[1] == second[1]


@pytest.mark.parametrize(
    ("segment", "seed"),
    [(_segment("site-01"), 0), (_segment(round_=2), 0), (_segment(), 1)],
    ids=["site", "round", "seed"],
)
def test_another_site_round_or_seed_gives_another_result(segment: Segment, seed: int) -> None:
    assert "backbone.0.0.weight" in changed(_adapt()[0], _adapt(segment, seed=seed)[0])


def test_every_site_and_round_draws_its_own_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = _record(monkeypatch)
    for segment in (_segment(), _segment("site-01"), _segment(round_=2)):
        _adapt(segment)
    orders = [tuple(torch.cat([tr.index for tr, _, _ in seen[i : i + 3]]).tolist()) for i in (0, 3, 6)]
    assert len(set(orders)) == 3


def test_global_random_state_neither_matters_nor_moves() -> None:
    results = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        np.random.seed(seed)
        before = torch.random.get_rng_state(), repr(np.random.get_state())
        results.append(_adapt()[0])
        assert torch.equal(torch.random.get_rng_state(), before[0])
        assert repr(np.random.get_state()) == before[1]  # the position is part of it
    assert changed(*results) == set()


def test_a_segment_that_is_not_fresh_keeps_the_statistics_it_finds() -> None:
    fresh, later = (_adapt(_segment(fresh=f), method__name="adabn")[0] for f in (True, False))
    assert changed(snapshot(tiny_network()), later) == set()
    assert changed(snapshot(tiny_network()), fresh)


@pytest.mark.parametrize(("fresh", "passes"), [(True, 1 + 3), (False, 7 + 3)])
def test_training_begins_with_adabn_only_when_fresh(fresh: bool, passes: int) -> None:
    state, _ = _adapt(_segment(fresh=fresh))
    assert int(state["bottleneck.1.num_batches_tracked"]) == passes


def test_the_mode_of_the_network_before_does_not_matter() -> None:
    results = []
    for training in (True, False):
        network = tiny_network().train(training)
        adapt(network, tiny_network().train(training), site_data(), experiment(), _segment())
        results.append(snapshot(network))
    assert changed(*results) == set()


# --- the learning rate ------------------------------------------------------------------------------


def test_the_schedule_goes_on_across_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[int, int]] = []

    def spy(step: int, total: int) -> float:
        seen.append((step, total))
        return lr_factor(step, total)

    monkeypatch.setattr(engine, "lr_factor", spy)
    for round_ in (1, 2):
        _adapt(_segment(round_=round_))
    assert seen == [(i, 6) for i in range(6)]


def test_the_schedule_is_that_of_the_papers() -> None:
    assert lr_factor(0, 7) == 1.0
    assert lr_factor(3, 10) == pytest.approx(4**-0.75)
    assert lr_factor(10, 10) == pytest.approx(11**-0.75)


@pytest.mark.parametrize(("momentum", "weight_decay"), [(0.9, 1e-3), (0.0, 0.1), (0.5, 0.0)])
def test_the_optimiser_is_nesterov_sgd(momentum: float, weight_decay: float) -> None:
    ours, theirs = tiny_network(), tiny_network()
    for network in (ours, theirs):
        network.classifier.requires_grad_(False)
    optimiser = NesterovSgd(ours, lr=0.1, backbone_lr_scale=0.3, momentum=momentum, weight_decay=weight_decay)
    groups = [{"params": m.parameters(), "lr": 0.1} for m in (theirs.backbone, theirs.bottleneck)]
    reference = torch.optim.SGD(groups, momentum=momentum, weight_decay=weight_decay, nesterov=momentum > 0)
    generator = torch.Generator().manual_seed(0)
    for factor in (1.0, 0.5, 0.25):
        optimiser.zero_grad()
        reference.zero_grad()
        pairs = list(zip(ours.named_parameters(), theirs.parameters(), strict=True))
        for (name, p), q in pairs:
            if factor < 1 or not name.startswith("bottleneck.0"):  # one layer gets its first gradient later
                p.grad = torch.randn(p.shape, generator=generator)
                q.grad = p.grad.clone()
        optimiser.step(factor)
        for group, base in zip(reference.param_groups, (0.03, 0.1), strict=True):
            group["lr"] = base * factor
        reference.step()
    before, a, b = snapshot(tiny_network()), snapshot(ours), snapshot(theirs)
    assert all(torch.allclose(a[key], b[key], rtol=1e-6, atol=1e-7) for key in a)
    moved = {key for key, p in ours.named_parameters() if p.requires_grad}
    assert changed(before, a) == moved


# --- draws ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("n", "batch"), [(12, 4), (12, 5), (7, 7), (1, 1), (5, 12)])
def test_an_epoch_holds_every_index_once(n: int, batch: int) -> None:
    stream = IndexStream(n, np.random.default_rng(0))
    taken = np.concatenate([stream.take(batch) for _ in range(3 * n)])
    for epoch in taken[: len(taken) // n * n].reshape(-1, n):
        assert sorted(epoch) == list(range(n))


def test_batches_of_an_index_stream_differ() -> None:
    # Regression: an iterator made anew at every step gives the first batch for ever.
    stream = IndexStream(40, np.random.default_rng(0))
    batches = [tuple(stream.take(10)) for _ in range(12)]
    assert len(set(batches)) == len(batches)
    assert len({frozenset(b) for b in batches[:4]}) == 4


def _record(monkeypatch: pytest.MonkeyPatch) -> list[tuple[TrBatch, TiBatch, Terms]]:
    """Everything that SOCKET's steps are given and give back."""
    seen: list[tuple[TrBatch, TiBatch, Terms]] = []
    step: Callable[[Socket, TrBatch, TiBatch | None], Terms] = Socket.step

    def spy(self: Socket, tr: TrBatch, ti: TiBatch | None) -> Terms:
        terms = step(self, tr, ti)
        assert ti is not None
        seen.append((tr, ti, {name: value.detach().clone() for name, value in terms.items()}))
        return terms

    monkeypatch.setattr(Socket, "step", spy)
    return seen


def _keys(x: Tensor) -> list[bytes]:
    return [row.numpy().tobytes() for row in x]


@pytest.mark.parametrize("views", [1, 3])
def test_every_view_of_every_pair_is_seen_once_an_epoch(monkeypatch: pytest.MonkeyPatch, views: int) -> None:
    seen = _record(monkeypatch)
    data = site_data(pairs=8)
    _adapt(_segment(steps=2 * views), data, method__batch=4, method__ti_views=views)
    rows = [key for _, ti, _ in seen for key in _keys(ti.x)]
    assert len(rows) == len(set(rows)) == 8 * views
    plain = Loader(data.ti.target, Preprocessing.of(experiment().data), CPU).batch(np.arange(8))
    assert set(_keys(plain)) <= set(rows)  # the first view of each pair is the image itself


def test_views_stay_the_same_over_rounds_and_their_order_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = _record(monkeypatch)
    for round_ in (1, 2):
        _adapt(_segment(round_=round_, steps=4), method__batch=4, method__ti_views=2)
    one, two = ([key for _, ti, _ in part for key in _keys(ti.x)] for part in (seen[:4], seen[4:]))
    assert set(one) == set(two)
    assert one != two


def test_both_halves_of_a_pair_are_shown_in_one_view(monkeypatch: pytest.MonkeyPatch) -> None:
    # Regression: with twin halves, the cached features of a pair must be those of the target half shown.
    seen = _record(monkeypatch)
    data = SiteData(depth_images(12), twin_pairs(8))
    _adapt(_segment(steps=8), data, method__batch=4, method__ti_views=4, data__pad=5)
    source = tiny_network().eval()
    with torch.no_grad():
        own = torch.cat([source.features(ti.x) for _, ti, _ in seen])
    cached = torch.cat([ti.source_features for _, ti, _ in seen])
    assert torch.allclose(own, cached, atol=1e-5)
    apart = (own - cached.roll(1, 0)).norm(dim=1)
    assert apart.min() > 1e-2  # any other pair or view would show


def test_an_unadapted_target_has_no_distance_to_twins() -> None:
    _, report = _adapt(
        data=SiteData(depth_images(12), twin_pairs(8)),
        federation__bn_policy="source",
        method__weights={"pl": 0.0, "im": 0.0, "bn": 0.0, "ti": 1.0},
        method__ti_loss="per_sample",
        method__weight_decay=0.0,
    )
    assert report.losses["ti"] == pytest.approx(0.0, abs=1e-9)


def test_tr_batches_belong_to_their_indices(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = _record(monkeypatch)
    _adapt(_segment(steps=2), data__pad=0, data__flip=False)
    loader = Loader(site_data().tr, Preprocessing.of(experiment().data), CPU)
    index = torch.cat([tr.index for tr, _, _ in seen])
    assert sorted(index.tolist()) == list(range(12))
    assert torch.equal(torch.cat([tr.x for tr, _, _ in seen]), loader.batch(index.numpy()))


def test_16_bit_depth_keeps_every_value() -> None:
    # Regression: through an 8-bit RGB conversion 65,536 values become 256 or fewer.
    values = np.arange(2**16, dtype=np.uint16).reshape(1, 256, 256)
    loader = Loader(Images(values, 65_535.0), Preprocessing.of(experiment().data), CPU)
    x = loader.batch(np.array([0]))
    assert len(x[0, 0].unique()) == 2**16
    assert torch.equal(x[0, 0], x[0, 1])
    assert torch.equal(x[0, 0], x[0, 2])
    assert (float(x.min()), float(x.max())) == (-1.0, 1.0)


# --- steps and reports ------------------------------------------------------------------------------


def test_losses_are_means_of_the_weighted_terms(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = _record(monkeypatch)
    _, report = _adapt()
    assert report.losses.keys() == {"pl", "im", "bn", "ti"}
    for name, value in report.losses.items():
        assert value == pytest.approx(float(torch.stack([terms[name] for _, _, terms in seen]).mean()), rel=1e-5)


def test_every_step_is_reported_to_the_caller() -> None:
    calls: list[tuple[int, int]] = []
    network = tiny_network()
    adapt(network, tiny_network(), site_data(), experiment(), _segment(), on_step=lambda a, b: calls.append((a, b)))
    assert calls == [(1, 3), (2, 3), (3, 3)]


@pytest.mark.parametrize(("batch", "tr", "ti"), [(6, 6, 6), (8, 8, 8), (64, 12, 8)])
def test_a_batch_is_never_larger_than_the_set(monkeypatch: pytest.MonkeyPatch, batch: int, tr: int, ti: int) -> None:
    seen = _record(monkeypatch)
    _, report = _adapt(method__batch=batch)
    assert [(len(a.x), len(b.x)) for a, b, _ in seen] == [(tr, ti)] * 3
    assert (report.steps, report.visits) == (3, 3 * (tr + ti))


def test_the_smallest_site_can_train() -> None:
    for policy in ("local", "source", "pooled"):
        _, report = _adapt(data=site_data(2, 2), federation__bn_policy=policy, method__ti_views=1)
        assert report.steps == 3


@pytest.mark.parametrize(("every", "at"), [(None, [0, 2, 4, 6]), (5, [0, 5]), (100, [0])])
def test_pseudo_labels_are_refreshed_about_once_an_epoch(
    monkeypatch: pytest.MonkeyPatch, every: int | None, at: list[int]
) -> None:
    done, refreshed = [0], []
    refresh = Shot.refresh

    def spy(self: Shot, pool: Pool) -> None:
        refreshed.append(done[-1])
        refresh(self, pool)

    monkeypatch.setattr(Shot, "refresh", spy)
    adapt(
        tiny_network(),
        tiny_network(),
        site_data(),
        experiment(method__name="shot", method__refresh_every=every),
        _segment(steps=7),
        on_step=lambda step, _: done.append(step),
    )
    assert refreshed == at  # 12 images in batches of 6


@pytest.mark.parametrize("name", ["shot", "socket"])
def test_a_loss_that_is_not_finite_is_an_error(name: str) -> None:
    with pytest.raises(MethodError, match="no longer finite") as caught:
        _adapt(method__name=name, method__lr=1e30)
    assert caught.value.where == name
    assert "method.lr" in caught.value.remedy


def test_training_lowers_the_loss() -> None:
    losses = []
    for steps in (1, 30):
        _, report = _adapt(_segment(steps=steps), method__batch=12, method__lr=0.02, method__backbone_lr_scale=1.0)
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
