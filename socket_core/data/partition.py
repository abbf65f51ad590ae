"""Splitting one data set among sites, or between owner and sites; pure functions of arguments and a seed."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable

import numpy as np

from socket_core.data.types import Index
from socket_core.errors import ConfigError, DataError

# BatchNorm cannot train on fewer than two images.
MINIMUM = 2
_DRAWS = 1000


def parse_partition(spec: str) -> tuple[str, float | None]:
    """Read ``"iid"`` as ``("iid", None)``, ``"sensor"`` likewise, ``"dirichlet:0.5"`` as ``("dirichlet", 0.5)``.

    Raises:
        ConfigError: Anything else, naming ``federation.partition``.
    """
    name, colon, value = spec.partition(":")
    if name in ("iid", "sensor") and not colon:
        return name, None
    if name == "dirichlet" and colon:
        try:
            alpha = float(value)
        except ValueError:
            alpha = math.nan
        if math.isfinite(alpha) and alpha > 0:
            return "dirichlet", alpha
    raise ConfigError(
        f"expected 'iid', 'sensor' or 'dirichlet:ALPHA' with ALPHA > 0, found {spec!r}",
        where="federation.partition",
        remedy="write for example 'dirichlet:0.5'; a smaller ALPHA makes the sites differ more",
    )


def _check_room(count: int, sites: int, minimum: int) -> None:
    """Raise unless ``count`` images can give each of ``sites`` sites at least ``minimum``."""
    if sites < 1:
        raise ConfigError(f"expected at least one site, found {sites}", where="federation.sites")
    if count < sites * minimum:
        raise DataError(
            f"expected at least {minimum} images for each of {sites} sites, found {count} images in all",
            remedy="lower federation.sites, or add images",
        )


def iid_partition(n: int, sites: int, seed: int, minimum: int = MINIMUM) -> list[Index]:
    """Deal ``0..n-1`` out at random; sizes differ by at most one.

    Args:
        n: Number of images.
        sites: Number of sites.
        seed: Same seed, same split.
        minimum: Fewest images a site may get.

    Returns:
        One sorted int64 index per site; every image is at exactly one site.

    Raises:
        DataError: Fewer than ``sites * minimum`` images.
    """
    _check_room(n, sites, minimum)
    order = np.random.default_rng(seed).permutation(n).astype(np.int64)
    return [np.sort(part) for part in np.array_split(order, sites)]


def _draw(groups: list[Index], sites: int, alpha: float, rng: np.random.Generator) -> list[Index]:
    """One Dirichlet split: each class is shuffled and cut at random proportions, independently of the others."""
    parts: list[list[Index]] = [[] for _ in range(sites)]
    for group in groups:
        shares = rng.dirichlet(np.full(sites, alpha))
        # The last bound is the class size by construction, so that rounding can neither lose nor repeat an image.
        bounds = np.rint(np.cumsum(shares)[:-1] * len(group)).astype(np.int64)
        for part, piece in zip(parts, np.split(rng.permutation(group), bounds), strict=True):
            part.append(piece)
    return [np.sort(np.concatenate(part)) for part in parts]


def dirichlet_partition(labels: Index, sites: int, alpha: float, seed: int, minimum: int = MINIMUM) -> list[Index]:
    """Split so that the class mixture differs between sites (label skew).

    Args:
        labels: ``(N,)`` class indices.
        sites: Number of sites.
        alpha: Concentration; towards 0 each class goes to one site, towards infinity all sites look alike.
        seed: Same seed, same split.
        minimum: Fewest images a site may get; the split is drawn again, up to 1000 times, until all have them.

    Returns:
        One sorted int64 index per site; every image is at exactly one site.

    Raises:
        DataError: Too few images, or no draw gave every site ``minimum`` images.
        ConfigError: ``alpha`` is not a positive number.
    """
    if not (math.isfinite(alpha) and alpha > 0):
        raise ConfigError(f"expected a positive alpha, found {alpha}", where="federation.partition")
    _check_room(len(labels), sites, minimum)
    rng = np.random.default_rng(seed)
    groups: list[Index] = [np.flatnonzero(labels == name).astype(np.int64) for name in np.unique(labels)]
    for _ in range(_DRAWS):
        parts = _draw(groups, sites, alpha, rng)
        if min(len(part) for part in parts) >= minimum:
            return parts
    raise DataError(
        f"expected a split of {len(labels)} images with at least {minimum} at each of {sites} sites, "
        f"found none in {_DRAWS} draws with alpha {alpha}",
        where="federation.partition",
        remedy="raise the alpha in federation.partition, or lower federation.sites",
    )


def sensor_partition(
    names: tuple[str, ...], tr: Index, ti: Index, sites: int, minimum: int = MINIMUM
) -> tuple[list[Index], list[Index]]:
    """One site a sensor: each has the images, and the pairs, that its own sensor took.

    Args:
        names: The sensors.
        tr: ``(N,)`` positions in ``names``, of the task-relevant images.
        ti: ``(M,)`` positions in ``names``, of the pairs.
        sites: Number of sites; must be that of the sensors with task-relevant images.
        minimum: Fewest images and fewest pairs a site may have.

    Returns:
        Per site, the positions of its images, and those of its pairs.

    Raises:
        ConfigError: Another number of sites, or pairs of a sensor that is at no site.
        DataError: A sensor with too few images or pairs.
    """
    there = [i for i in range(len(names)) if (tr == i).any()]
    if sites != len(there):
        raise ConfigError(
            f"expected one site for each of {len(there)} sensors, found {sites} sites",
            where="federation.sites",
            remedy=f"set it to {len(there)} ({', '.join(names[i] for i in there)}), or choose data.target_sensors",
        )
    if homeless := sorted(names[i] for i in range(len(names)) if i not in there and (ti == i).any()):
        raise ConfigError(
            f"expected pairs of the sites' own sensors, found some of {', '.join(homeless)}",
            where="data.ti_sensors",
            remedy=f"set it to [{', '.join(names[i] for i in there)}]",
        )
    parts = [[np.flatnonzero(numbers == i).astype(np.int64) for i in there] for numbers in (tr, ti)]
    for i, images, pairs in zip(there, *parts, strict=True):
        if min(len(images), len(pairs)) < minimum:
            raise DataError(
                f"expected at least {minimum} images and {minimum} pairs of sensor {names[i]!r}, "
                f"found {len(images)} and {len(pairs)}",
                where="federation.partition",
                remedy="leave the sensor out (data.target_sensors, data.ti_sensors), or choose another partition",
            )
    return parts[0], parts[1]


def partition(labels: Index, sites: int, spec: str, seed: int) -> list[Index]:
    """Split ``labels`` (``(N,)`` int64) at random, as ``spec`` says; see :func:`parse_partition`."""
    name, alpha = parse_partition(spec)
    if name == "dirichlet" and alpha is not None:
        return dirichlet_partition(labels, sites, alpha, seed)
    return iid_partition(len(labels), sites, seed)


def first_views(views: Iterable[tuple[str, str]], fraction: float) -> set[tuple[str, str]]:
    """Per class, the first ``fraction`` of the views, at least one and never all.

    The order is that of a hash of class and id: it is the same on every machine and for every modality, does
    not depend on which other files exist, and is unrelated to the order of recording.

    Args:
        views: ``(class, id)``; repeats count once.
        fraction: Share of each class, between 0 and 1.

    Raises:
        DataError: A class with a single view.
    """
    groups: dict[str, set[str]] = {}
    for label, name in views:
        groups.setdefault(label, set()).add(name)
    chosen: set[tuple[str, str]] = set()
    for label, names in groups.items():
        if len(names) < 2:
            raise DataError(
                f"expected at least two views of class {label!r} to divide, found one",
                remedy="add images of the class, or do not divide the training views",
            )
        # File names need not be valid UTF-8; surrogates keep them distinct.
        order = sorted(names, key=lambda n: hashlib.sha256(f"{label}/{n}".encode(errors="surrogateescape")).digest())
        count = min(max(round(fraction * len(order)), 1), len(order) - 1)
        chosen.update((label, name) for name in order[:count])
    return chosen
