"""What the adaptation loop draws: every image and every view of a pair, once an epoch."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from socket_core.data.loader import IndexStream, Loader, Preprocessing
from socket_core.data.types import Images, SiteData
from tests.core.builders import (
    CPU,
    adapt_tiny,
    depth_images,
    experiment,
    record_steps,
    segment_of,
    site_data,
    tiny_network,
    twin_pairs,
)


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


def _keys(x: Tensor) -> list[bytes]:
    return [row.numpy().tobytes() for row in x]


@pytest.mark.parametrize("views", [1, 3])
def test_every_view_of_every_pair_is_seen_once_an_epoch(monkeypatch: pytest.MonkeyPatch, views: int) -> None:
    seen = record_steps(monkeypatch)
    data = site_data(pairs=8)
    adapt_tiny(segment_of(steps=2 * views), data, method__batch=4, method__ti_views=views)
    rows = [key for _, ti, _ in seen for key in _keys(ti.x)]
    assert len(rows) == len(set(rows)) == 8 * views
    plain = Loader(data.ti.target, Preprocessing.of(experiment().data), CPU).batch(np.arange(8))
    assert set(_keys(plain)) <= set(rows)  # the first view of each pair is the image itself


def test_views_stay_the_same_over_rounds_and_their_order_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = record_steps(monkeypatch)
    for round_ in (1, 2):
        adapt_tiny(segment_of(round_=round_, steps=4), method__batch=4, method__ti_views=2)
    one, two = ([key for _, ti, _ in part for key in _keys(ti.x)] for part in (seen[:4], seen[4:]))
    assert set(one) == set(two)
    assert one != two


def test_both_halves_of_a_pair_are_shown_in_one_view(monkeypatch: pytest.MonkeyPatch) -> None:
    # Regression: with twin halves, the cached features of a pair must be those of the target half shown.
    seen = record_steps(monkeypatch)
    data = SiteData(depth_images(12), twin_pairs(8))
    adapt_tiny(segment_of(steps=8), data, method__batch=4, method__ti_views=4, data__pad=5)
    source = tiny_network().eval()
    with torch.no_grad():
        own = torch.cat([source.features(ti.x) for _, ti, _ in seen])
    cached = torch.cat([ti.source_features for _, ti, _ in seen])
    off, apart = ((own - features).norm(dim=1) for features in (cached, cached.roll(1, 0)))
    assert apart.min() > 0.1  # any other pair or view would show
    # Batches of other sizes are summed in another order, and here eval mode multiplies the rounding by 300:
    # the variance at the bottleneck is far below BatchNorm's eps.
    assert off.max() < 1e-3 * apart.min()


def test_an_unadapted_target_has_no_distance_to_twins() -> None:
    _, report = adapt_tiny(
        data=SiteData(depth_images(12), twin_pairs(8)),
        federation__bn_policy="source",
        method__weights={"pl": 0.0, "im": 0.0, "bn": 0.0, "ti": 1.0},
        method__ti_loss="per_sample",
        method__weight_decay=0.0,
    )
    assert report.losses["ti"] == pytest.approx(0.0, abs=1e-9)


def test_tr_batches_belong_to_their_indices(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = record_steps(monkeypatch)
    adapt_tiny(segment_of(steps=2), data__pad=0, data__flip=False)
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
