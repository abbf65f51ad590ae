"""Experiment files that extend others: only what differs is written, and errors still name the file that is wrong."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from socket_core.errors import ConfigError
from socket_core.yaml_files import read_mapping


@dataclass(frozen=True)
class Layer:
    """One file of a chain: its own keys, ``extends`` taken out, relative paths found from this file."""

    path: Path
    values: dict[str, Any]


def read_layers(path: Path) -> list[Layer]:
    """An experiment file and those that it extends, the given one first.

    Raises:
        ConfigError: If a file cannot be read, a chain comes back to itself, or an extending file has no name.
    """
    layers: list[Layer] = []
    seen: list[Path] = []
    following: Path | None = path
    while following is not None:
        if following.resolve() in seen:
            circle = " -> ".join(p.name for p in [*seen[seen.index(following.resolve()) :], following])
            raise ConfigError(
                f"key 'extends': the files extend each other in a circle, {circle}",
                where=str(layers[-1].path),
                remedy="let one of them stand alone",
            )
        seen.append(following.resolve())
        values = read_mapping(following)
        extended = _extended(following, values)
        layers.append(Layer(following, _with_own_paths(following, values)))
        following = extended
    return layers


def merge(layers: list[Layer]) -> dict[str, Any]:
    """The keys of all layers: mappings are merged, anything else is the nearest file's. A name is not inherited."""
    merged: dict[str, Any] = {}
    for layer in reversed(layers):
        merged = _over(merged, layer.values)
    return merged


def holder(layers: list[Layer], location: tuple[int | str, ...]) -> Path:
    """The file that wrote the key at this place: the nearest of those that hold most of the way to it."""
    return max(layers, key=lambda layer: _depth(layer.values, location)).path  # max takes the first of equals


def _extended(path: Path, values: dict[str, Any]) -> Path | None:
    """Takes ``extends`` out and says which file it means."""
    if "extends" not in values:
        return None
    text = values.pop("extends")
    if not isinstance(text, str) or not text:
        raise ConfigError(
            f"key 'extends': expected a file, found {text!r}", where=str(path), remedy="write extends: other.yaml"
        )
    if not (other := path.parent / Path(text).expanduser()).is_file():
        raise ConfigError(
            f"key 'extends': there is no file {other}", where=str(path), remedy="give its path relative to this file"
        )
    if "name" not in values:
        raise ConfigError(
            "key 'name' is missing, and it is not inherited",
            where=str(path),
            remedy="give this experiment a name of its own: rows, files and jobs are called by it",
        )
    return other


def absolute(section: dict[str, Any], path: Path) -> dict[str, Any]:
    """A section with its relative folders and files found beside ``path``; other keys as they are."""
    out = dict(section)
    for key in ("root", "ti_root", "weights"):
        name = section.get(key)
        if isinstance(name, str) and name and not Path(name).expanduser().is_absolute():
            out[key] = str((path.resolve().parent / name).resolve())
    return out


def _with_own_paths(path: Path, values: dict[str, Any]) -> dict[str, Any]:
    """A relative ``data.root`` means a folder beside the file that writes it, not beside one that extends it."""
    own = {name: absolute(values[name], path) for name in ("data", "network") if isinstance(values.get(name), dict)}
    return {**values, **own}


def _over(base: dict[str, Any], values: dict[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in values.items():
        below = merged.get(key)
        merged[key] = _over(below if isinstance(below, dict) else {}, value) if isinstance(value, dict) else value
    return merged


def _depth(values: Any, location: tuple[int | str, ...]) -> int:
    for depth, part in enumerate(location):
        if not isinstance(values, dict) or part not in values:
            return depth
        values = values[part]
    return len(location)
