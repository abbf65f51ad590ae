"""What the comma-separated options of ``socket-owner compare`` say; errors name the option and the remedy."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from server.grid import Axes
from server.results import MODES, Mode
from socket_core.config import MethodName
from socket_core.data.partition import parse_partition
from socket_core.errors import ConfigError
from socket_core.methods import METHODS
from socket_core.run_config import APP

V = TypeVar("V")


def find(config: Path) -> Path:
    """A file of the working directory, else one of the app's own."""
    return config if config.exists() or config.is_absolute() else APP / config


def words(text: str) -> list[str]:
    """Comma-separated words, each once."""
    return list(dict.fromkeys(word.strip() for word in text.split(",") if word.strip()))


def methods(text: str, *, needed: bool) -> tuple[MethodName, ...]:
    """Names of methods; ``none`` for none, unless one is needed.

    Raises:
        ConfigError: If one is unknown, or one is needed and there is none.
    """
    names = [] if text == "none" else words(text)
    for name in names:
        if name not in METHODS:
            raise ConfigError(f"unknown method {name!r}", where="--methods", remedy=f"known: {', '.join(METHODS)}")
    if needed and not names:
        raise ConfigError("nothing to compare", where="--methods", remedy="name methods here, or give --variants")
    return tuple(names)  # type: ignore[arg-type]  # checked against the registry just above


def modes(text: str) -> tuple[Mode, ...]:
    """Names of modes, in the order of the table.

    Raises:
        ConfigError: If one is unknown or none is left.
    """
    names = words(text)
    for name in names:
        if name not in MODES:
            raise ConfigError(f"unknown mode {name!r}", where="--modes", remedy=f"known: {', '.join(MODES)}")
    if not names:
        raise ConfigError("no mode is left", where="--modes", remedy=f"give at least one of {', '.join(MODES)}")
    return tuple(mode for mode in MODES if mode in names)


def seeds(text: str, own: int) -> tuple[int, ...]:
    """``3`` counts: 0, 1, 2. ``0,1,2`` and ``3,`` are lists; ``0`` is seed 0; nothing is the experiment's own.

    Raises:
        ConfigError: If it is none of these.
    """
    if not text.strip():
        return (own,)
    numbers = _each(text, "--seeds", _seed, "for example 3 (seeds 0, 1 and 2), 0,4,7 (these), or 3, (seed 3 alone)")
    if "," not in text and numbers[0] > 0:
        return tuple(range(numbers[0]))
    return numbers


def axes(epsilon: str, sites: str, partition: str) -> Axes:
    """The axes of a grid.

    Raises:
        ConfigError: If a value is wrong.
    """
    return Axes(
        _each(epsilon, "--epsilon", _epsilon, "for example 1,3,8,none; none is without differential privacy"),
        _each(sites, "--sites", _sites, "for example 2,4,8"),
        _each(partition, "--partition", _partition, "for example iid,dirichlet:0.5,dirichlet:0.1"),
    )


def _each(text: str, option: str, read: Callable[[str], V], remedy: str) -> tuple[V, ...]:
    out = []
    for word in words(text):
        try:
            out.append(read(word))
        except (ValueError, ConfigError) as error:
            what = error.what if isinstance(error, ConfigError) else str(error)
            raise ConfigError(what, where=option, remedy=remedy) from None
    if text.strip() and not out:
        raise ConfigError(f"no value in {text!r}", where=option, remedy=remedy)
    return tuple(dict.fromkeys(out))


def _seed(word: str) -> int:
    if not word.isdecimal():
        raise ValueError(f"expected numbers from 0 on, found {word!r}")
    return int(word)


def _sites(word: str) -> int:
    if not word.isdecimal() or int(word) < 1:
        raise ValueError(f"expected numbers of sites, found {word!r}")
    return int(word)


def _epsilon(word: str) -> float | None:
    if word.casefold() == "none":
        return None
    try:
        value = float(word)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value > 0):
        raise ValueError(f"expected numbers above 0, or none, found {word!r}")
    return value


def _partition(word: str) -> str:
    parse_partition(word)
    return word
