"""Aggregation: exact numbers, no dependence on order, float64 inside."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from server.aggregation import SiteUpdate, Statistics, apply, fedavg, pool_batchnorm, weights_of
from server.state import ServerState
from socket_core.batchnorm import Moments, pool_moments
from socket_core.packing import as_it_is
from tests.server.builders import site_update


def array(*values: float) -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.array(values, dtype=np.float32)


def update(site: str, examples: int, delta: Any, bn: tuple[list[float], list[float]] | None = None) -> SiteUpdate:
    moments = Statistics(as_it_is(array(*bn[0])), as_it_is(array(*bn[1]))) if bn is not None else None
    return site_update(site, examples, delta, moments)


def test_weights_by_examples_are_shares_of_the_images() -> None:
    updates = [update("a", 10, [0]), update("b", 30, [0]), update("c", 60, [0])]
    assert weights_of(updates, "examples") == [0.1, 0.3, 0.6]


def test_equal_weights_do_not_look_at_images() -> None:
    updates = [update("a", 1, [0]), update("b", 999, [0])]
    assert weights_of(updates, "equal") == [0.5, 0.5]


@pytest.mark.parametrize(("weighting", "expected"), [("examples", [1.75, -1.0, 10.25]), ("equal", [2.5, 0.0, 10.5])])
def test_the_next_parameters_are_the_old_ones_plus_the_weighted_mean(weighting: Any, expected: list[float]) -> None:
    state = ServerState("job", 4, array(0.0, 0.0, 10.0))
    updates = [update("a", 30, [1.0, -2.0, 0.0]), update("b", 10, [4.0, 2.0, 1.0])]
    after = apply(state, updates, weighting)
    assert (after.experiment, after.round, after.batchnorm) == ("job", 5, None)
    assert after.parameters.dtype == np.float32
    assert after.parameters.tolist() == expected
    assert state.parameters.tolist() == [0.0, 0.0, 10.0], "the old state is left alone"


def test_one_update_is_taken_as_it_is() -> None:
    delta = np.random.default_rng(0).standard_normal(50).astype(np.float32)
    assert fedavg([delta], [1.0]).tobytes() == delta.tobytes()


def test_small_terms_beside_a_large_one_are_not_lost() -> None:
    deltas = [array(1e8), *[array(1.0)] * 8, array(-1e8)]
    assert fedavg(deltas, [1.0] * 10).tolist() == [8.0], "in float32 the sum would be 0"


def test_values_near_the_largest_float_do_not_overflow_in_between() -> None:
    deltas = [array(3e38), array(3e38)]
    assert fedavg(deltas, [0.5, 0.5]).tolist() == [float(np.float32(3e38))]


updates_strategy = st.lists(
    st.tuples(
        st.integers(1, 10**6),
        st.lists(st.floats(-1e6, 1e6, width=32), min_size=3, max_size=3),
        st.lists(st.floats(-100, 100, width=32), min_size=2, max_size=2),
        st.lists(st.floats(0, 100, width=32), min_size=2, max_size=2),
    ),
    min_size=1,
    max_size=6,
)


@given(updates_strategy, st.randoms(use_true_random=False), st.sampled_from(["examples", "equal"]))
def test_the_order_of_updates_does_not_change_a_bit(parts: Any, random: Any, weighting: Any) -> None:
    updates = [update(f"site-{i}", n, delta, (mean, var)) for i, (n, delta, mean, var) in enumerate(parts)]
    state = ServerState("job", 0, array(1.0, 2.0, 3.0))
    one = apply(state, updates, weighting)
    shuffled = list(updates)
    random.shuffle(shuffled)
    other = apply(state, shuffled, weighting)
    assert one.parameters.tobytes() == other.parameters.tobytes()
    assert one.batchnorm is not None
    assert other.batchnorm is not None
    assert one.batchnorm.mean.tobytes() == other.batchnorm.mean.tobytes()
    assert one.batchnorm.var.tobytes() == other.batchnorm.var.tobytes()


@given(updates_strategy)
def test_the_mean_lies_between_the_smallest_and_the_largest_update(parts: Any) -> None:
    updates = [update(f"site-{i}", n, delta) for i, (n, delta, _, _) in enumerate(parts)]
    mean = fedavg([u.delta.floats() for u in updates], weights_of(updates, "examples"))
    stacked = np.stack([u.delta.floats() for u in updates])
    assert (mean >= stacked.min(0) - 1e-6 * np.abs(stacked).max()).all()
    assert (mean <= stacked.max(0) + 1e-6 * np.abs(stacked).max()).all()


def test_pooled_statistics_include_the_variance_of_the_means() -> None:
    pooled = pool_batchnorm([update("a", 5, [0], ([-5.0], [1.0])), update("b", 5, [0], ([5.0], [1.0]))])
    assert pooled is not None
    assert (pooled.mean.tolist(), pooled.var.tolist()) == ([0.0], [26.0])


def test_pooled_statistics_are_those_of_pool_moments() -> None:
    rng = np.random.default_rng(1)
    parts = [(int(n), rng.normal(size=4), rng.uniform(size=4)) for n in (3, 50, 7)]
    updates = [update(f"s{i}", n, [0], (m.tolist(), v.tolist())) for i, (n, m, v) in enumerate(parts)]
    pooled = pool_batchnorm(updates)
    assert pooled is not None
    expected = pool_moments(
        [Moments(n, torch.tensor(m, dtype=torch.float32), torch.tensor(v, dtype=torch.float32)) for n, m, v in parts]
    )
    assert pooled.mean.tobytes() == expected.mean.numpy().tobytes()
    assert pooled.var.tobytes() == expected.var.numpy().tobytes()
    assert pooled.mean.dtype == pooled.var.dtype == np.float32


def test_statistics_of_the_union_come_out_of_statistics_of_the_parts() -> None:
    data = np.random.default_rng(2).normal(3, 2, size=90).astype(np.float32)
    parts = np.split(data, [20, 50])
    updates = [update(f"s{i}", len(p), [0], ([p.mean()], [p.var()])) for i, p in enumerate(parts)]
    pooled = pool_batchnorm(updates)
    assert pooled is not None
    np.testing.assert_allclose([pooled.mean[0], pooled.var[0]], [data.mean(), data.var()], rtol=1e-6)


def test_without_statistics_from_every_site_there_are_none() -> None:
    assert pool_batchnorm([update("a", 1, [0])]) is None
    assert pool_batchnorm([update("a", 1, [0], ([0.0], [1.0])), update("b", 1, [0])]) is None
