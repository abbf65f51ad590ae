"""Laws of the splits among sites."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from socket_core.data.partition import (
    dirichlet_partition,
    first_views,
    iid_partition,
    parse_partition,
    partition,
    sensor_partition,
)
from socket_core.data.types import Index
from socket_core.errors import ConfigError, DataError


def _assert_covers(parts: list[Index], n: int) -> None:
    assert all(part.dtype == np.int64 and np.all(np.diff(part) > 0) for part in parts)
    np.testing.assert_array_equal(np.sort(np.concatenate(parts)), np.arange(n))


@settings(max_examples=40, deadline=None)
@given(
    counts=st.lists(st.integers(1, 30), min_size=1, max_size=6),
    sites=st.integers(1, 4),
    alpha=st.floats(0.5, 1000),
    seed=st.integers(0, 2**32),
)
def test_dirichlet_covers_each_index_once(counts: list[int], sites: int, alpha: float, seed: int) -> None:
    labels = np.repeat(np.arange(len(counts)), counts).astype(np.int64)
    try:
        parts = dirichlet_partition(labels, sites, alpha, seed)
    except DataError:
        assert len(labels) < 6 * sites  # only a tight fit may fail
        return
    assert len(parts) == sites
    assert min(len(part) for part in parts) >= 2
    _assert_covers(parts, len(labels))


@given(n=st.integers(2, 200), sites=st.integers(1, 20), seed=st.integers(0, 2**32))
def test_iid_covers_each_index_once(n: int, sites: int, seed: int) -> None:
    if n < 2 * sites:
        with pytest.raises(DataError, match="federation.sites"):
            iid_partition(n, sites, seed)
        return
    parts = iid_partition(n, sites, seed)
    _assert_covers(parts, n)
    sizes = [len(part) for part in parts]
    assert len(parts) == sites
    assert max(sizes) - min(sizes) <= 1


def test_same_seed_same_split_other_seed_other_split() -> None:
    labels = np.tile(np.arange(5), 20).astype(np.int64)
    for spec in ("iid", "dirichlet:0.5"):
        first, again, other = (partition(labels, 3, spec, seed) for seed in (1, 1, 2))
        assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
        assert not all(np.array_equal(a, b) for a, b in zip(first, other, strict=True))


def test_alpha_sets_the_skew() -> None:
    labels = np.repeat(np.arange(4), 250).astype(np.int64)

    def spread(alpha: float) -> float:
        parts = dirichlet_partition(labels, 4, alpha, seed=0)
        shares = np.array([np.bincount(labels[part], minlength=4) for part in parts]) / 250
        return float(shares.std())

    assert spread(1e6) < 0.01 < 0.2 < spread(0.1)


def test_dirichlet_gives_up_with_remedy() -> None:
    labels = np.zeros(8, dtype=np.int64)  # one class with a tiny alpha: all at one site, nothing for the rest
    with pytest.raises(DataError, match="raise the alpha in federation.partition"):
        dirichlet_partition(labels, 4, 1e-3, seed=0)


def test_minimum_is_respected() -> None:
    labels = np.repeat(np.arange(3), 30).astype(np.int64)
    assert min(len(part) for part in dirichlet_partition(labels, 3, 0.5, seed=3, minimum=15)) >= 15


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("iid", ("iid", None)),
        ("sensor", ("sensor", None)),
        ("dirichlet:0.5", ("dirichlet", 0.5)),
        ("dirichlet:3", ("dirichlet", 3)),
    ],
)
def test_parse(spec: str, expected: tuple[str, float | None]) -> None:
    assert parse_partition(spec) == expected


@pytest.mark.parametrize(
    "spec",
    [
        "",
        "iid:",
        "iid:1",
        "sensor:1",
        "IID",
        "dirichlet",
        "dirichlet:",
        "dirichlet:x",
        "dirichlet:0",
        "dirichlet:-1",
        "dirichlet:inf",
        "dirichlet:nan",
    ],
)
def test_parse_refuses(spec: str) -> None:
    with pytest.raises(ConfigError, match=r"federation\.partition"):
        parse_partition(spec)


def test_no_sites_and_bad_alpha() -> None:
    with pytest.raises(ConfigError, match="at least one site"):
        iid_partition(10, 0, 0)
    with pytest.raises(ConfigError, match="positive alpha"):
        dirichlet_partition(np.zeros(10, dtype=np.int64), 2, float("nan"), 0)


@given(ids=st.sets(st.text(min_size=1, max_size=4), min_size=2, max_size=30), fraction=st.floats(0.01, 0.99))
def test_first_views_divides_each_class(ids: set[str], fraction: float) -> None:
    views = [(label, name) for label in ("a", "b") for name in ids]
    chosen = first_views([*views, *views], fraction)
    assert chosen == first_views(reversed(views), fraction)
    for label in ("a", "b"):
        count = sum(view[0] == label for view in chosen)
        assert 1 <= count <= len(ids) - 1
        assert abs(count - fraction * len(ids)) <= 1


def test_first_views_needs_two() -> None:
    with pytest.raises(DataError, match="two views of class 'a'"):
        first_views([("a", "1"), ("a", "1")], 0.5)


@given(
    tr=st.lists(st.integers(0, 2), min_size=30, max_size=60), ti=st.lists(st.integers(0, 2), min_size=30, max_size=60)
)
def test_each_image_is_at_the_site_of_its_sensor(tr: list[int], ti: list[int]) -> None:
    tr, ti = [*tr, 0, 0, 1, 1, 2, 2], [*ti, 0, 0, 1, 1, 2, 2]
    images, pairs = sensor_partition(("a", "b", "c"), np.array(tr), np.array(ti), 3)
    _assert_covers(images, len(tr))
    _assert_covers(pairs, len(ti))
    for site in range(3):
        assert {tr[i] for i in images[site]} == {ti[i] for i in pairs[site]} == {site}
