"""Variants: other settings that a comparison puts beside the plain methods, as further rows of its table.

A variant starts from the very source model of the comparison and is tested on the same images. What may differ is
the method, the federation with its partition, and which images are task-irrelevant pairs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from socket_core.config import Experiment, load_experiment
from socket_core.errors import ConfigError
from socket_core.methods import METHODS

ENDINGS = (".yaml", ".yml")
FREE = "ti_"
"""Keys of ``data`` that begin so may differ: no other image changes with them."""


def load_variants(
    paths: Sequence[Path], base: Experiment, overrides: dict[str, Any] | None = None
) -> tuple[Experiment, ...]:
    """The experiments of files and of folders of files, each folder's sorted by name.

    Args:
        paths: Files or folders.
        base: The comparison's own experiment; the seed is the comparison's, whatever a variant says.
        overrides: As for :func:`load_experiment`, the same for all.

    Raises:
        ConfigError: If there is no file, one is wrong, two rows would have one name, or a variant could not start
            from the source model of the base or would be tested on other images; names the file.
    """
    variants: dict[str, tuple[Path, Experiment]] = {}
    for path in (file for given in paths for file in _files(given)):
        experiment = load_experiment(path, overrides)
        _check_name(experiment.name, path, base, {name: known for name, (known, _) in variants.items()})
        _check_comparable(experiment, base, path)
        variants[experiment.name.casefold()] = path, experiment
    return tuple(experiment for _, experiment in variants.values())


def _files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    files = sorted(p for p in path.iterdir() if p.suffix in ENDINGS and p.is_file())
    if not files:
        raise ConfigError("no .yaml file in this folder", where=str(path), remedy="give files, or a folder of them")
    return files


def _check_name(name: str, path: Path, base: Experiment, known: dict[str, Path]) -> None:
    """Rows, folders and files go by the name, on some file systems whatever its case."""
    if name.casefold() in known:
        other = f"the name of {known[name.casefold()]}"
    elif name.casefold() == base.name.casefold():
        other = "the name of the experiment that variants are compared with"
    elif name in METHODS:
        other = "the name of a method"
    else:
        return
    raise ConfigError(f"key 'name': {name!r} is {other}", where=str(path), remedy="give the variant its own name")


def _check_comparable(variant: Experiment, base: Experiment, path: Path) -> None:
    same_seed = variant.model_copy(update={"seed": base.seed})
    differences = list(_differences(_fixed(base), _fixed(variant)))
    if not differences and same_seed.source_digest() == base.source_digest():
        return
    what = "another source model" if not differences else "{}: {!r}, the comparison has {!r}".format(*differences[0])
    raise ConfigError(
        f"a variant shares images and source model with the comparison; {what}",
        where=str(path),
        remedy=f"change only method, federation and the data keys that begin with {FREE!r}, for example by "
        "extends: BASE.yaml; or compare it on its own",
    )


def _fixed(experiment: Experiment) -> dict[str, Any]:
    values = experiment.model_dump(mode="json", include={"data", "network", "source"})
    values["data"] = {key: value for key, value in values["data"].items() if not key.startswith(FREE)}
    return values


def _differences(base: dict[str, Any], variant: dict[str, Any], above: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Dotted key, the variant's value, the base's."""
    for key, value in variant.items():
        if isinstance(value, dict) and isinstance(base[key], dict):
            yield from _differences(base[key], value, f"{above}{key}.")
        elif value != base[key]:
            yield f"{above}{key}", value, base[key]
