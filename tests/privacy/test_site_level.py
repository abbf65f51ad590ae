"""The mechanism of whole-site protection: what is clipped, what is refused, and how much noise there is."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy.stats import chi2, norm

from socket_core.errors import PrivacyError
from socket_core.privacy.dp_step import fresh_generator
from socket_core.privacy.site_level import clip_change, largest_share, noise_share

CHANGES = arrays.arrays(
    np.float32, arrays.array_shapes(min_dims=0, max_dims=2, min_side=0), elements=st.floats(width=32, allow_nan=False)
)
CLIPS = st.floats(1e-3, 1e6)


@pytest.mark.parametrize(
    ("change", "clip", "expected"),
    [
        ([3.0, 4.0], 1.0, [0.6, 0.8]),
        ([3.0, 4.0], 5.0, [3.0, 4.0]),
        ([0.3, 0.4], 1.0, [0.3, 0.4]),
        ([0.0, -0.0], 1.0, [0.0, -0.0]),
        (-8.0, 2.0, -2.0),
        (0.0, 2.0, 0.0),
        ([], 2.0, []),
        ([[3.0], [4.0]], 2.5, [[1.5], [2.0]]),
    ],
)
def test_known_changes(change: Any, clip: float, expected: Any) -> None:
    found = clip_change(np.array(change, dtype=np.float64), clip)
    assert found.shape == np.shape(expected)
    np.testing.assert_allclose(found, expected, rtol=1e-15)


@given(change=CHANGES, clip=CLIPS)
def test_a_clipped_change_keeps_its_direction_and_has_at_most_the_norm(change: Any, clip: float) -> None:
    if not np.isfinite(change).all():
        with pytest.raises(PrivacyError, match="not finite"):
            clip_change(change, clip)
        return
    whole, found = change.astype(np.float64), clip_change(change, clip)
    size = math.sqrt(float(np.square(whole).sum()))
    assert math.sqrt(float(np.square(found).sum())) <= clip * (1 + 1e-12)
    if size <= clip:
        assert found.tobytes() == whole.tobytes()
    else:
        np.testing.assert_allclose(found * (size / clip), whole, rtol=1e-9)


@pytest.mark.parametrize("wrong", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("shape", [(), (1,), (3, 2)])
def test_what_no_factor_would_bound_is_refused(wrong: float, shape: tuple[int, ...]) -> None:
    change = np.zeros(shape, np.float32)
    change[(0,) * len(shape)] = wrong
    with pytest.raises(PrivacyError) as caught:
        clip_change(change, 1.0)
    assert caught.value.where == "site_privacy.clip"


def assert_deviation(values: Any, deviation: float) -> None:
    """The sum of squares is chi-square; each side fails once in 10^9 runs. Cells of a third hold a third each."""
    ratio = float(np.square(values / deviation).sum())
    assert chi2.ppf(1e-9, len(values)) < ratio < chi2.isf(1e-9, len(values))
    inner = float(np.mean(np.abs(values / deviation) < norm.ppf(2 / 3)))
    assert inner == pytest.approx(1 / 3, abs=6 / math.sqrt(len(values)))


@pytest.mark.parametrize(("sigma", "clip", "sites"), [(1.0, 1.0, 1), (3.0, 0.5, 4), (0.3, 100.0, 10)])
def test_a_share_is_normal_with_its_part_of_the_variance(sigma: float, clip: float, sites: int) -> None:
    assert_deviation(noise_share(20_000, sigma, clip, sites, fresh_generator()), sigma * clip / math.sqrt(sites))


def test_all_shares_together_are_the_noise_of_the_server() -> None:
    assert_deviation(sum(noise_share(20_000, 2.0, 0.5, 5, fresh_generator()) for _ in range(5)), 2.0 * 0.5)


def test_shares_are_drawn_anew_each_time() -> None:
    one, other = (noise_share(4000, 1.0, 1.0, 1, fresh_generator()) for _ in range(2))
    assert abs(float(np.corrcoef(one, other)[0, 1])) < 6 / math.sqrt(4000)


@pytest.mark.parametrize("length", [1, 10, 20_000])
def test_no_honest_share_passes_the_limit_and_a_hundredfold_one_does(length: int) -> None:
    change = np.full(length, 1e3, np.float32)
    share = clip_change(change, 2.0) + noise_share(length, 1.5, 2.0, 4, fresh_generator())
    assert np.linalg.norm(share) < largest_share(length, 1.5, 2.0, 4) < 100 * (2.0 + 1.5 * math.sqrt(length))


def test_the_limit_is_passed_less_often_than_it_says() -> None:
    """Of the noise alone, exactly: its squared norm over the variance is chi-square."""
    for length in (1, 100, 10**6):
        beyond = (largest_share(length, 1.0, 1.0, 1) - 1.0) ** 2
        assert chi2.sf(beyond, length) < 1.3e-14
