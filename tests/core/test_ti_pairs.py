"""TI pairs in training: one view for both halves and for the cached features, and a probe that is never trained on."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from socket_core.data.types import Images, Pairs
from socket_core.methods import build_method
from socket_core.methods.base import Method, TiBatch
from socket_core.ti_pairs import PROBE_MAXIMUM, TiPairs, split_probe
from tests.core.builders import CPU, SIDE, bridge_for, experiment, rgb_images, site_data, tiny_network, twin_pairs


def _method(*, bridge: bool, **values: Any) -> Method:
    """A configured method: TGMB, which wants RGB, or SOCKET."""
    cfg = experiment(method__name="tgkt" if bridge else "socket", **values).method
    source = tiny_network()
    method = build_method(cfg, "local", bridge=bridge)
    method.configure(tiny_network(), source, bridge_for(cfg, source))
    return method


def _pairs(pairs: Pairs, *, bridge: bool = True, site: str = "site-00", **values: Any) -> TiPairs:
    return TiPairs(pairs, _method(bridge=bridge, **values), experiment(**values), site, CPU)


def _flat(n: int) -> Pairs:
    """Pair i is of value i throughout: no shift or flip changes it."""
    values = np.arange(n, dtype=np.uint8)
    rgb = np.broadcast_to(values[:, None, None, None], (n, SIDE, SIDE, 3)).copy()
    return Pairs(Images(rgb, 255.0), Images(rgb[..., 0].copy(), 255.0))


def _numbers(x: Tensor) -> list[int]:
    """The positions of pairs of :func:`_flat` from their network inputs."""
    return [round(255 * (float(row.mean()) / 2 + 0.5)) for row in x]


def _epoch(ti: TiPairs, count: int, batch: int = 8) -> list[TiBatch]:
    return [ti.take(batch) for _ in range(count // batch)]


def _probed(ti: TiPairs) -> list[int]:
    """The pairs that the probe shows."""
    seen: list[Tensor] = []

    def predict(x: Tensor) -> Tensor:
        seen.append(x)
        return torch.zeros(len(x), 3)

    assert ti.probe is not None
    ti.probe.agreement(predict)
    return _numbers(seen[0])


@pytest.mark.parametrize("bridge", [True, False])
def test_no_pair_of_the_probe_is_trained_on(bridge: bool) -> None:
    ti = _pairs(_flat(72), bridge=bridge, method__trust="agreement", method__ti_views=3)
    probed = _probed(ti)
    shown = [n for batch in _epoch(ti, 63 * 3, 9) for n in _numbers(batch.x)]
    assert len(probed) == len(set(probed)) == 9
    assert not set(probed) & set(shown)
    assert sorted(shown) == sorted(3 * [n for n in range(72) if n not in probed])


def test_both_stages_keep_the_same_pairs_for_the_probe_and_another_site_others() -> None:
    values: dict[str, Any] = {"method__trust": "agreement"}
    one, two = (_probed(_pairs(_flat(72), bridge=bridge, **values)) for bridge in (True, False))
    assert one == two
    assert _probed(_pairs(_flat(72), site="site-01", **values)) != one


def test_where_pairs_are_few_the_probe_shows_all_and_training_too() -> None:
    ti = _pairs(_flat(60), method__trust="agreement", method__ti_views=1)
    assert _probed(ti) == list(range(60))
    assert sorted(n for batch in _epoch(ti, 60, 6) for n in _numbers(batch.x)) == list(range(60))


def test_nothing_is_kept_out_where_nobody_asks() -> None:
    ti = _pairs(_flat(72), method__trust="always", method__ti_views=1)
    assert ti.probe is None
    assert sorted(n for batch in _epoch(ti, 72, 8) for n in _numbers(batch.x)) == list(range(72))


def test_both_halves_of_a_batch_are_of_one_pair() -> None:
    for batch in _epoch(_pairs(_flat(72), method__trust="agreement"), 128):
        assert batch.rgb is not None
        assert _numbers(batch.x) == _numbers(batch.rgb)


def test_both_halves_and_the_features_belong_to_one_view() -> None:
    ti = _pairs(twin_pairs(16), method__ti_views=4, data__pad=5)
    batches = _epoch(ti, 64)
    x, features = torch.cat([b.x for b in batches]), torch.cat([b.source_features for b in batches])
    assert all(b.rgb is not None and torch.equal(b.rgb, b.x) for b in batches)
    with torch.no_grad():
        own = tiny_network().eval().features(x)
    off = (own - features).norm(dim=1)
    apart = torch.cdist(own, features) + 1e9 * torch.eye(len(x))
    assert len({row.numpy().tobytes() for row in x}) > 32  # several views
    assert apart.min() > 0.05
    assert off.max() < 1e-3 * apart.min()


def test_colour_is_there_for_who_asks_only() -> None:
    assert _pairs(twin_pairs(8)).take(4).rgb is not None
    assert _pairs(twin_pairs(8), bridge=False).take(4).rgb is None


def test_features_are_those_of_the_colour_half() -> None:
    data = site_data(pairs=8)
    batch = _pairs(data.ti, data__pad=3).take(8)
    assert batch.rgb is not None
    with torch.no_grad():
        own, target = (tiny_network().eval().features(x) for x in (batch.rgb, batch.x))
    assert torch.allclose(own, batch.source_features, atol=1e-4)
    assert not torch.allclose(target, batch.source_features, atol=1e-2)


def test_the_probe_asks_the_source_about_the_colour_halves() -> None:
    # Twin halves: the source itself agrees fully with what it said, and without shifts or flips with itself.
    ti = _pairs(twin_pairs(72), method__trust="agreement", data__pad=0, data__flip=False)
    assert ti.probe is not None
    assert ti.probe.ceiling == 1.0
    source = tiny_network().eval()
    assert ti.probe.agreement(source) == 1.0
    assert ti.probe.trust(1.0) == 1.0


def test_the_ceiling_is_found_by_showing_another_view() -> None:
    asked: list[Tensor] = []
    method = _method(bridge=False, method__trust="agreement")
    forward = method.source.forward

    def spy(x: Tensor) -> Tensor:
        asked.append(x)
        return forward(x)

    method.source.forward = spy  # type: ignore[method-assign]
    pairs = Pairs(rgb_images(72), twin_pairs(72).target)
    TiPairs(pairs, method, experiment(method__trust="agreement"), "site-00", CPU)
    plain, other = asked
    assert plain.shape == other.shape == (9, 3, SIDE, SIDE)
    assert not any(torch.equal(a, b) for a, b in zip(plain, other, strict=True))


@given(st.integers(0, 5000), st.integers(0, 2**63 - 1))
def test_a_split_shares_out_every_pair_once(count: int, seed: int) -> None:
    train, held = split_probe(count, seed)
    assert sorted([*train, *held]) == list(range(count))
    assert list(train) == sorted(train)
    assert list(held) == sorted(held)
    assert len(held) == (0 if count < 64 else min(count // 8, PROBE_MAXIMUM))
    again = split_probe(count, seed)
    assert np.array_equal(train, again[0])
    assert np.array_equal(held, again[1])


def test_another_seed_keeps_other_pairs() -> None:
    assert not np.array_equal(split_probe(200, 1)[1], split_probe(200, 2)[1])
