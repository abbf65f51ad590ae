"""The graph resizes as Pillow does, and gives the logits that the product gives."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from socket_core.data.decode import Stored, decode, resize
from socket_core.export.classifiers import InProduct
from socket_core.export.graph import Graph, resampling
from tests.core.export_builders import CLOSE, RAW, adapted, model, preparation, raw_images

FILTERS = {"box": Image.Resampling.BOX, "bilinear": Image.Resampling.BILINEAR}


@given(st.integers(1, 90), st.integers(1, 40), st.sampled_from(["box", "bilinear"]))
@settings(max_examples=40, deadline=None)
def test_the_filter_is_pillows(length: int, size: int, kind: str) -> None:
    rows = resampling(length, size, kind)
    assert np.allclose(rows.sum(1), 1.0)
    if length != size:  # Pillow copies then
        columns = Image.fromarray(np.eye(length, dtype=np.float32)).resize((size, length), FILTERS[kind])
        assert np.allclose(np.asarray(columns).T, rows, atol=1e-7)


def test_depth_leaves_holes_out_of_a_mean_and_becomes_one_below_half() -> None:
    graph = Graph(model(), preparation(size=16, raw=(32, 32)), (32, 32))
    plane = torch.zeros(32, 32)
    plane[0, 0], plane[0, 1] = 100, 201  # half of the area: their mean, 150.5, to the even number
    plane[0, 2] = 100  # a quarter: a hole
    found = graph._resize(plane)
    assert found[0, :3].tolist() == [150, 0, 0]


@pytest.mark.parametrize("raw", [(60, 80), (61, 83), (80, 60), (12, 15), (40, 16), (16, 40)])
@pytest.mark.parametrize("modality", ["depth", "nir"])
@pytest.mark.parametrize("bits", [8, 16])
def test_whole_pixel_values_are_those_of_the_product(
    raw: tuple[int, int], modality: Literal["depth", "nir"], bits: Literal[8, 16]
) -> None:
    graph = Graph(model(), preparation(modality=modality, bits=bits, raw=raw), raw)
    rng = np.random.default_rng(1)
    pixels: Any = rng.integers(0, 2**bits, raw).astype(np.uint16 if bits == 16 else np.uint8)
    pixels[rng.random(raw) < 0.3] = 0
    expected = resize(pixels, 16, modality).astype(np.float64)
    found = graph._resize(torch.from_numpy(pixels.astype(np.float32))).numpy()
    apart = np.abs(found - expected)
    # An exact half may fall either way where sums are taken in another order.
    assert apart.max() <= 1
    assert (apart > 0).sum() <= 1


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"modality": "nir"},
        {"modality": "nir", "bits": 8, "full_scale": 255.0},
        {"rotated": True},
        {"size": 44, "raw": (44, 44)},
    ],
)
def test_logits_are_those_of_the_product(tmp_path: Path, changes: dict[str, Any]) -> None:
    _, found = adapted(tmp_path, **changes)
    raw = found.card.preparation.raw
    assert raw is not None
    graph, product = Graph(found.network(), found.card.preparation, raw), InProduct(found)
    for path in raw_images(tmp_path / "raw", **changes):
        pixels = torch.from_numpy(decode(path, found.card.preparation.modality, Stored()))
        logits = graph(pixels).numpy()
        assert logits.shape == (3,)
        assert np.abs(logits - product.logits(path)).max() < CLOSE


def test_the_network_given_stays_as_it_is() -> None:
    network = model()
    Graph(network, preparation(), RAW)
    assert network.state_dict().keys() == model().state_dict().keys()
