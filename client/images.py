"""The images on a deployed site's disk, as ``site.yaml`` says where they are."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from client.site_file import SiteFile
from socket_core.config import Experiment
from socket_core.data.decode import Stored, check_pair_sizes, decode_many, full_scale_for, original_size
from socket_core.data.files_of import by_name, paired
from socket_core.data.types import Images, Labelled, Pairs
from socket_core.errors import DataError


def load_tr(file: SiteFile, experiment: Experiment) -> Images:
    """The task-relevant images below ``tr``; raises DataError if there is none, or one cannot be read."""
    return _images(_files(file.tr, "tr"), file, experiment.data.size)


def load_pairs(file: SiteFile, experiment: Experiment) -> tuple[Pairs, tuple[tuple[Path, Path], ...]]:
    """The TI pairs below ``ti_rgb`` and ``ti_target``, and their files.

    Raises:
        DataError: If there is none, one cannot be read, or has no other half of its size.
    """
    files = paired(
        by_name(file.ti_rgb, _files(file.ti_rgb, "ti_rgb")),
        by_name(file.ti_target, _files(file.ti_target, "ti_target")),
    )
    check_pair_sizes(files)
    size = experiment.data.size
    rgb = Images(decode_many([rgb for rgb, _ in files], "rgb", size, cache=_cache(file)), 255.0)
    return Pairs(rgb, _images([own for _, own in files], file, size)), tuple(files)


def load_held_out(file: SiteFile, experiment: Experiment, classes: Sequence[str]) -> Labelled | None:
    """The labelled images below ``held_out``, one folder a class; None where ``site.yaml`` names none.

    A class may lack images here; a folder that is no class of the task is a mistake in one of the names.

    Raises:
        DataError: If there is no image, or a folder that is none of ``classes``.
    """
    if file.held_out is None:
        return None
    files = _files(file.held_out, "held_out")
    names = [path.relative_to(file.held_out).parts[0] for path in files]
    if unknown := sorted(set(names) - set(classes)):
        raise DataError(
            f"folder {unknown[0]!r} is no class of the task",
            where=f"held_out: {file.held_out}",
            remedy=f"one folder for each class, called {', '.join(classes)}",
        )
    labels = np.array([list(classes).index(name) for name in names], dtype=np.int64)
    return Labelled(_images(files, file, experiment.data.size), labels)


def raw_size(file: SiteFile) -> tuple[int, int] | None:
    """Height and width of the task-relevant images as the sensor stored them; None where they differ."""
    sizes = {original_size(path) for path in _files(file.tr, "tr")}
    if len(sizes) > 1:
        return None
    width, height = sizes.pop()
    return height, width


def _cache(file: SiteFile) -> Path:
    return file.home / "cache"


def _images(files: list[Path], site: SiteFile, size: int) -> Images:
    pixels = decode_many(files, site.modality, size, stored=Stored(rotated=site.rotated), cache=_cache(site))
    return Images(pixels, full_scale_for(pixels, site.full_scale))


def _files(folder: Path, key: str) -> list[Path]:
    files = (
        sorted(p for p in folder.rglob("*") if p.is_file() and not p.name.startswith(".")) if folder.is_dir() else []
    )
    if not files:
        raise DataError("no image found", where=f"{key}: {folder}", remedy="put images there or correct the path")
    return files
