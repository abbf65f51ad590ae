"""How changes travel: laws of rounding, and that reading by stretches is reading all at once."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from socket_core.config import UpdateType
from socket_core.errors import MethodError
from socket_core.exchange import Spec
from socket_core.packing import Packed, as_it_is, ends_of, norm_of, pack, stretches

TYPES: tuple[UpdateType, ...] = ("float32", "float16", "int8")
SHAPES = st.lists(st.lists(st.integers(0, 4), max_size=2).map(tuple), min_size=1, max_size=5)


def specs_of(shapes: Any) -> tuple[Spec, ...]:
    return tuple((f"t{i}", shape) for i, shape in enumerate(shapes))


@st.composite
def changes(draw: st.DrawFn, largest: float = 6e4) -> tuple[Any, tuple[Spec, ...]]:
    """A flat change and the tensors in it, which may be empty or of no dimension."""
    specs = specs_of(draw(SHAPES))
    size = sum(math.prod(shape) for _, shape in specs)
    return draw(arrays.arrays(np.float32, size, elements=st.floats(-largest, largest, width=32))), specs


def scale_of_each(packed: Packed, specs: tuple[Spec, ...]) -> Any:
    return np.repeat(packed.scales.astype(np.float64), [math.prod(shape) for _, shape in specs])


@given(changes(largest=2.0**-14) | changes())
def test_float16_is_the_nearest_value_that_it_has(drawn: Any) -> None:
    change, specs = drawn
    values = pack(change, specs, "float16").values
    assert values.dtype == np.float16
    np.testing.assert_array_equal(values, change.astype(np.float16))


@given(changes(largest=2.0**120))
def test_int8_is_off_by_half_a_scale_at_most(drawn: Any) -> None:
    change, specs = drawn
    packed = pack(change, specs, "int8")
    assert packed.values.dtype == np.int8
    assert packed.scales.shape == (len(specs),)
    assert not len(change) or int(np.abs(packed.values.astype(int)).max()) <= 127
    error = np.abs(packed.floats().astype(np.float64) - change)
    # Below 127 of the smallest float there is no scale, and one of few bits itself is off by as much.
    assert (error <= 0.5 * scale_of_each(packed, specs) * (1 + 1e-5) + 127 * 2.0**-149).all()


def test_the_levels_of_a_known_tensor() -> None:
    change = np.array([0.0, 127.0, -63.6, 0.49, 0.0, 0.0, -1e-3], np.float32)
    packed = pack(change, (("a", (4,)), ("zeros", (2,)), ("c", ())), "int8")
    assert packed.values.tolist() == [0, 127, -64, 0, 0, 0, -127]
    assert packed.scales.tolist() == [1.0, 0.0, float(np.float32(1e-3 / 127))]
    assert packed.floats()[:4].tolist() == [0.0, 127.0, -64.0, 0.0]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_has_no_scale(value: float) -> None:
    with pytest.raises(MethodError, match="no longer finite"):
        pack(np.array([1.0, value], np.float32), (("a", (2,)),), "int8")


@given(changes(), st.sampled_from(TYPES), st.integers(1, 9))
def test_stretches_put_together_are_the_whole(drawn: Any, dtype: UpdateType, longest: int) -> None:
    change, specs = drawn
    packed = pack(change, specs, dtype)
    parts = [packed.floats(start, stop) for start, stop in stretches(len(packed), longest)]
    assert all(part.dtype == np.float32 for part in parts)
    assert b"".join(part.tobytes() for part in parts) == packed.floats().tobytes()
    assert len(packed) == len(change) == sum(map(len, parts))
    sizes = [math.prod(shape) for _, shape in specs]
    scales = np.repeat(packed.scales, sizes) if dtype == "int8" else np.float32(1)
    assert np.array_equal(packed.floats(), packed.values.astype(np.float32) * scales)


@given(st.lists(arrays.arrays(np.float32, 7, elements=st.floats(-100, 100, width=32)), min_size=1, max_size=12))
def test_feedback_conserves_the_sum(rounds: list[Any]) -> None:
    """What has been sent so far and what is still owed are what has changed so far, but for float32's rounding."""
    specs, owed, sent = specs_of([(3,), (4,)]), np.zeros(7, np.float32), np.zeros(7)
    for change in rounds:
        wanted = change + owed
        packed = pack(wanted, specs, "int8")
        owed = wanted - packed.floats()
        sent += packed.floats()
        assert (np.abs(owed) <= 0.5 * scale_of_each(packed, specs) * (1 + 1e-5) + 1e-30).all(), "it does not pile up"
    np.testing.assert_allclose(sent + owed, np.sum(rounds, axis=0, dtype=np.float64), rtol=0, atol=1e-4 * len(rounds))


def test_without_feedback_a_small_change_never_arrives_and_with_it_it_does() -> None:
    specs, change = specs_of([(2,)]), np.array([100.0, 0.3], np.float32)  # the scale is 0.79
    plain, owed, fed = np.zeros(2), np.zeros(2, np.float32), np.zeros(2)
    for _ in range(10):
        plain += pack(change, specs, "int8").floats()
        packed = pack(change + owed, specs, "int8")
        owed = change + owed - packed.floats()
        fed += packed.floats()
    assert plain[1] == 0.0
    assert fed[1] == pytest.approx(3.0, abs=0.4)


@given(changes(largest=2.0**127), st.sampled_from(["float32", "int8"]))
def test_the_norm_is_that_of_the_values_in_float64(drawn: Any, dtype: UpdateType) -> None:
    change, specs = drawn
    packed = pack(change, specs, dtype)
    expected = math.sqrt(sum(float(v) ** 2 for v in packed.floats().tolist()))
    assert norm_of(packed) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_the_norm_of_what_is_not_finite_is_not_finite(value: float) -> None:
    assert not math.isfinite(norm_of(as_it_is(np.array([3e38, value, -3e38], np.float32))))
    assert math.isfinite(norm_of(as_it_is(np.full(1000, 3.4e38, np.float32)))), "squares of float32 fit in float64"


def test_a_level_beyond_float32_is_infinite_and_no_warning() -> None:
    packed = Packed(np.array([127], np.int8), np.array([3e38], np.float32), ends_of((("a", ()),)))
    assert not math.isfinite(norm_of(packed))


def test_no_more_than_a_stretch_is_widened_at_once() -> None:
    """Of the whole update there is no float32 copy: the same parts are asked for one after the other."""
    asked: list[tuple[int, int | None]] = []

    class Watched:
        def __len__(self) -> int:
            return 1_000_000

        def floats(self, start: int = 0, stop: int | None = None) -> Any:
            asked.append((start, stop))
            return np.ones((stop or 0) - start, np.float32)

    assert norm_of(Watched()) == 1000.0
    assert asked == list(stretches(1_000_000))
    assert max(stop - start for start, stop in stretches(1_000_000)) <= 1 << 16
