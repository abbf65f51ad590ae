"""Joint shift and flip against a naive reference, and the exactness of the step to floats."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from socket_core.data.augment import Draw, Pixels, affine, apply, identity, join, normalise, shift_flip
from socket_core.errors import DataError


def _naive(pixels: Pixels, draw: Draw, pad: int) -> Pixels:
    """One image at a time: pad by reflection, cut out, mirror."""
    out = np.empty_like(pixels)
    height, width = pixels.shape[1:3]
    for i, image in enumerate(pixels):
        padded = np.pad(image, [(pad, pad), (pad, pad), *[(0, 0)] * (image.ndim - 2)], mode="reflect")
        top, left = pad + int(draw.top[i]), pad + int(draw.left[i])
        view = padded[top : top + height, left : left + width]
        out[i] = view[:, ::-1] if draw.flip[i] else view
    return out


def _batch(rng: np.random.Generator, shape: tuple[int, ...], kind: type[np.uint8] | type[np.uint16]) -> Pixels:
    values = rng.integers(0, np.iinfo(kind).max, size=shape, endpoint=True)
    return values.astype(np.uint8) if kind is np.uint8 else values.astype(np.uint16)


@settings(max_examples=60, deadline=None)
@given(
    n=st.integers(0, 5),
    height=st.integers(1, 9),
    width=st.integers(1, 9),
    pad=st.integers(0, 8),
    flip=st.booleans(),
    seed=st.integers(0, 2**32),
)
def test_apply_equals_naive_on_both_halves(n: int, height: int, width: int, pad: int, flip: bool, seed: int) -> None:
    pad = min(pad, height - 1, width - 1)
    rng = np.random.default_rng(seed)
    rgb, depth = _batch(rng, (n, height, width, 3), np.uint8), _batch(rng, (n, height, width), np.uint16)
    draw = shift_flip(rng, n, height, width, pad, flip)
    assert np.abs(draw.top).max(initial=0) <= pad
    assert np.abs(draw.left).max(initial=0) <= pad
    assert flip or not draw.flip.any()
    for pixels in (rgb, depth):
        moved = apply(pixels, draw)
        assert moved.dtype == pixels.dtype
        np.testing.assert_array_equal(moved, _naive(pixels, draw, pad))


def test_both_halves_move_together() -> None:
    rng = np.random.default_rng(0)
    depth = _batch(rng, (6, 8, 8), np.uint8)
    rgb = np.repeat(depth[..., None], 3, axis=3).astype(np.uint8)
    draw = shift_flip(rng, 6, 8, 8, 3, True)
    np.testing.assert_array_equal(apply(rgb, draw)[..., 1], apply(depth, draw))


def test_no_pad_and_no_flip_is_identity() -> None:
    rng = np.random.default_rng(0)
    pixels = _batch(rng, (4, 5, 6, 3), np.uint8)
    for draw in (shift_flip(rng, 4, 5, 6, 0, False), identity(4)):
        np.testing.assert_array_equal(apply(pixels, draw), pixels)


def test_all_shifts_and_both_sides_occur() -> None:
    draw = shift_flip(np.random.default_rng(0), 500, 9, 9, 2, True)
    assert set(draw.top) == set(draw.left) == {-2, -1, 0, 1, 2}
    assert 200 < draw.flip.sum() < 300


def test_switching_flips_off_keeps_the_shifts() -> None:
    on, off = (shift_flip(np.random.default_rng(7), 20, 9, 9, 4, flip) for flip in (True, False))
    np.testing.assert_array_equal(on.top, off.top)
    np.testing.assert_array_equal(on.left, off.left)


def test_join_keeps_order() -> None:
    rng = np.random.default_rng(0)
    pixels = _batch(rng, (5, 6, 6), np.uint16)
    one, two = shift_flip(rng, 2, 6, 6, 2, True), shift_flip(rng, 3, 6, 6, 2, True)
    expected = np.concatenate([apply(pixels[:2], one), apply(pixels[2:], two)])
    np.testing.assert_array_equal(apply(pixels, join([one, two])), expected)


@pytest.mark.parametrize("pad", [-1, 4])
def test_pad_beyond_reflection_is_refused(pad: int) -> None:
    with pytest.raises(DataError, match="from 0 to 3 pixels for 4x7"):
        shift_flip(np.random.default_rng(0), 1, 4, 7, pad, False)


def test_draw_of_other_length_is_refused() -> None:
    with pytest.raises(DataError, match="2 draws for 3 images"):
        apply(np.zeros((3, 4, 4), np.uint8), identity(2))


def test_every_16_bit_step_survives() -> None:
    pixels = np.arange(65536, dtype=np.uint16).reshape(1, 256, 256)
    batch = _normalised(pixels, 65535.0, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    assert batch.shape == (1, 3, 256, 256)
    assert batch.dtype == torch.float32
    for channel in batch[0]:
        assert bool((channel.flatten().diff() > 0).all())


def test_normalised_values() -> None:
    rgb = np.array([[[[0, 51, 255]]]], np.uint8)
    batch = _normalised(rgb, 255.0, (0.5, 0.25, 0.0), (0.5, 0.25, 2.0))
    torch.testing.assert_close(batch.flatten(), torch.tensor([-1.0, -0.2, 0.5]))
    assert batch.is_contiguous()


def test_values_above_full_scale_are_clipped() -> None:
    batch = _normalised(np.array([[[9999, 10000, 65535]]], np.uint16), 10000.0, (0.0,) * 3, (1.0,) * 3)
    torch.testing.assert_close(batch[0, :, 0], torch.tensor([[0.9999, 1.0, 1.0]] * 3))


def test_empty_batch() -> None:
    assert _normalised(np.zeros((0, 4, 5), np.uint8), 255.0, (0.0,) * 3, (1.0,) * 3).shape == (0, 3, 4, 5)


def _normalised(pixels: Pixels, full_scale: float, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    return normalise(torch.from_numpy(pixels), full_scale, *affine(full_scale, mean, std))
