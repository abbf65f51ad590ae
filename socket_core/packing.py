"""How a flat change travels: float32, float16, or int8 with a scale for each tensor; and how it is read by stretches.

Whoever reads a change does so a stretch at a time, as float32, so that no more of it is in memory at once. Values are
widened by the same float32 operations at both ends: what a site thinks it has sent is what the owner adds, to the bit.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from socket_core.config import UpdateType
from socket_core.errors import MethodError
from socket_core.exchange import Flat, Spec

Values = NDArray[np.float32] | NDArray[np.float16] | NDArray[np.int8]
"""Of a change as it travels, flat."""

STRETCH = 1 << 16
"""Values that are widened at once: the stretch, its float64 copies and the sum stay in a core's cache together."""

LARGEST_LEVEL = 127
"""Of int8, whose -128 is not used: levels lie the same on both sides of 0."""


class Change(Protocol):
    """A flat change, wherever its values are: in memory, in a message, in a file."""

    def __len__(self) -> int:
        """Number of values."""

    def floats(self, start: int = 0, stop: int | None = None) -> Flat:
        """Values ``start`` to ``stop`` as float32."""


@dataclass(frozen=True, eq=False)
class Packed:
    """A change in the type that it travels in.

    Attributes:
        values: Flat, in the order of the tensors.
        scales: One for each tensor if ``values`` are int8, else empty.
        ends: Where each tensor ends; empty unless ``values`` are int8.
    """

    values: Values
    scales: Flat
    ends: NDArray[np.int64]

    def __len__(self) -> int:
        """Number of values."""
        return len(self.values)

    def floats(self, start: int = 0, stop: int | None = None) -> Flat:
        """Values ``start`` to ``stop`` as float32; a view of ``values`` where they are float32."""
        return widened(self.values[start:stop], self.scales, self.ends, start)


def as_it_is(values: Flat) -> Packed:
    """A float32 change that nothing is done to."""
    return Packed(values, np.empty(0, np.float32), np.empty(0, np.int64))


@dataclass(frozen=True, eq=False)
class Difference:
    """``after - before`` in float32, worked out where it is looked at: it is never in memory as a whole.

    Attributes:
        after: Flat.
        before: Likewise, as long.
    """

    after: Flat
    before: Flat

    def __len__(self) -> int:
        """Number of values."""
        return len(self.after)

    def floats(self, start: int = 0, stop: int | None = None) -> Flat:
        """Values ``start`` to ``stop`` as float32."""
        return self.after[start:stop] - self.before[start:stop]


def ends_of(specs: Sequence[Spec]) -> NDArray[np.int64]:
    """Where each tensor ends in the flat array."""
    return np.cumsum([math.prod(shape) for _, shape in specs], dtype=np.int64)


def pack(
    change: Change | Flat, specs: Sequence[Spec], dtype: UpdateType, *, where: str = "federation.update_dtype"
) -> Packed:
    """A change in the type that it travels in.

    float16 keeps 11 bits of each value and nothing below 6e-8. int8 keeps the nearest of 255 levels, a scale apart,
    the last at the tensor's largest absolute value: no value is off by more than half a scale. Beside the result no
    more is in memory at once than a few stretches, or with int8 two copies of the largest tensor.

    Args:
        change: Flat, in the order of ``specs``.
        specs: Keys and shapes.
        dtype: The type.
        where: The key that asks for it.

    Raises:
        MethodError: If a value is beyond what float16 holds, 65504, or is not finite in int8.
    """
    if dtype == "float32":
        return as_it_is(change if isinstance(change, np.ndarray) else change.floats())
    whole = as_it_is(change) if isinstance(change, np.ndarray) else change
    return _quantised(whole, ends_of(specs), where) if dtype == "int8" else _halved(whole, where)


def _halved(change: Change, where: str) -> Packed:
    values = np.empty(len(change), np.float16)
    for start, stop in stretches(len(change)):
        part = change.floats(start, stop)
        largest = float(np.abs(part).max())
        if largest > float(np.finfo(np.float16).max):
            raise MethodError(
                f"a parameter has changed by {largest:.3g}, float16 ends at 65504",
                where=where,
                remedy="use float32, or lower method.lr",
            )
        # PyTorch rounds as NumPy does, and is 6 times as fast, 50 times where many values are subnormal in float16.
        values[start:stop] = torch.from_numpy(part).to(torch.float16).numpy()
    return Packed(values, np.empty(0, np.float32), np.empty(0, np.int64))


def _quantised(change: Change, ends: NDArray[np.int64], where: str) -> Packed:
    values, scales = np.empty(len(change), np.int8), np.zeros(len(ends), np.float32)
    for index, (start, stop) in enumerate(zip((0, *ends[:-1]), ends, strict=True)):
        part = change.floats(start, stop)
        largest = max(float(part.max()), -float(part.min())) if len(part) else 0.0
        if not math.isfinite(largest):
            raise MethodError("a parameter is no longer finite", where=where, remedy="lower method.lr")
        scale = np.float32(largest / LARGEST_LEVEL)
        if scale == 0:  # all zeros, or so small that float32 has no scale for them: the residual keeps those
            values[start:stop] = 0
            continue
        scales[index] = scale
        levels = part / scale
        del part
        np.rint(levels, out=levels)
        # The scale of the smallest floats is itself rounded, up to a half: the largest level may then lie beyond.
        values[start:stop] = np.clip(levels, -LARGEST_LEVEL, LARGEST_LEVEL, out=levels)
        del levels  # before the next tensor comes
    return Packed(values, scales, ends)


def widened(values: Values, scales: Flat, ends: NDArray[np.int64], start: int = 0) -> Flat:
    """Values that begin at ``start`` of a flat change, as float32; infinite where a level times its scale is.

    Args:
        values: The stretch.
        scales: Of all tensors, if ``values`` are int8.
        ends: Likewise.
        start: Where the stretch begins.
    """
    if values.dtype == np.float32:
        return values  # type: ignore[return-value]  # a comparison of dtypes narrows nothing
    if values.dtype == np.float16:
        # PyTorch widens six times as fast as NumPy; it wants memory that may be written.
        return torch.from_numpy(values.copy()).float().numpy()
    if not len(values):
        return np.empty(0, np.float32)
    first, last = np.searchsorted(ends, [start, start + len(values) - 1], side="right")
    inside = np.minimum(ends[first : last + 1], start + len(values))
    counts = np.diff(inside, prepend=start)
    with np.errstate(over="ignore"):  # of hostile scales; whoever screens finds the infinity
        return np.multiply(values, np.repeat(scales[first : last + 1], counts), dtype=np.float32)


def stretches(length: int, longest: int = STRETCH) -> Iterator[tuple[int, int]]:
    """Where the stretches of a flat array begin and end."""
    for start in range(0, length, longest):
        yield start, min(start + longest, length)


def norm_of(change: Change) -> float:
    """L2 norm, in float64; NaN or infinite exactly if a value is: squares of float32 cannot overflow in float64."""
    total = 0.0
    for start, stop in stretches(len(change)):
        part = change.floats(start, stop).astype(np.float64)
        total += float(part.dot(part))
    return math.sqrt(total) if total >= 0 else math.nan
