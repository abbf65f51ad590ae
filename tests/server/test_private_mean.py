"""The private mean: one site more or less moves it by at most ``clip / divisor``, whatever that site sends."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from server.aggregation import Blur, apply
from server.state import ServerState
from socket_core.errors import PrivacyError
from tests.server.builders import site_update

DELTA = arrays.arrays(np.float32, 4, elements=st.floats(-(2.0**100), 2.0**100, width=32))


def private_mean(deltas: Sequence[Any], blur: Blur) -> Any:
    """The mean of these changes, as a round makes it."""
    updates = [site_update(f"site-{i}", 1, delta) for i, delta in enumerate(deltas)]
    return apply(ServerState("job", 0, np.zeros_like(deltas[0])), updates, "equal", blur=blur).parameters


def array(*values: float) -> Any:
    return np.array(values, dtype=np.float32)


@given(others=st.lists(DELTA, min_size=1, max_size=5), one=DELTA, clip=st.floats(1e-2, 1e2), sites=st.integers(1, 10))
def test_one_site_moves_the_mean_by_no_more_than_its_clip(others: Any, one: Any, clip: float, sites: int) -> None:
    blur = Blur(sites, clip)
    without, with_it = private_mean(others, blur), private_mean([*others, one], blur)
    moved = float(np.linalg.norm(with_it.astype(np.float64) - without))
    rounding = 1e-6 * clip * len(others) / sites  # of float32
    assert moved <= clip / sites * (1 + 1e-6) + rounding


def test_the_plain_mean_moves_as_far_as_a_site_likes() -> None:
    """What the test above would not see in a sum without clip."""
    blur, others = Blur(4), [array(0, 0)]
    assert float(np.linalg.norm(private_mean([*others, array(4e6, 0)], blur))) == 1e6


@pytest.mark.parametrize(
    ("blur", "expected"),
    [
        (Blur(4, 1.0), [(0.6 + 1.0) / 4, 0.8 / 4]),
        (Blur(4, 1.0, lambda _length: np.array([4.0, -8.0])), [1.0 + 1.6 / 4, -2.0 + 0.8 / 4]),
        (Blur(2, 10.0), [2.0, 2.0]),
        (Blur(2), [2.0, 2.0]),
    ],
)
def test_known_means(blur: Blur, expected: list[float]) -> None:
    """The divisor is a constant: two sites answered, of four."""
    np.testing.assert_allclose(private_mean([array(3, 4), array(1, 0)], blur), expected, rtol=1e-6)


def test_the_same_updates_in_any_order_are_the_same_to_the_bit() -> None:
    rng = np.random.default_rng(0)
    updates = [site_update(f"site-{i}", 1, rng.standard_normal(40)) for i in range(5)]
    state = ServerState("job", 0, np.zeros(40, np.float32))
    one, other = (apply(state, order, "equal", blur=Blur(5, 1.0)) for order in (updates, updates[::-1]))
    assert one.parameters.tobytes() == other.parameters.tobytes()
    assert one.round == 1


def test_what_is_not_finite_is_refused() -> None:
    with pytest.raises(PrivacyError):
        private_mean([array(1, float("nan"))], Blur(2, 1.0))
