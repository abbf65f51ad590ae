"""Readers of data sets: each lists what lies on disk in one layout; see ``docs/data.md`` for adding one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import get_args

from socket_core import own_names
from socket_core.config import DataConfig, DataKind
from socket_core.data.decode import PLAIN, Stored
from socket_core.data.index import DataIndex, Faults
from socket_core.data.readers import diml, epfl_nir, folder, lists, sunrgbd
from socket_core.errors import ConfigError

Reader = Callable[[DataConfig, Path, Faults], DataIndex]
"""Lists the views below a folder (the second argument) by the ``data`` section; gives faults of files to ``Faults``."""

READERS: dict[str, Reader] = {}
"""Those that :func:`register` has added; the product's own are below."""


def register(kind: str) -> Callable[[Reader], Reader]:
    """Makes a reader of one's own known in this process: ``@register("mine")`` for ``data.kind: mine``.

    For federations over Flower and for the command line see ``docs/add-a-data-set.md``.

    Raises:
        ConfigError: If the kind is no plain word, or one of the product's.
    """

    def keep(reader: Reader) -> Reader:
        wrong = f"{kind!r} is part of the product" if kind in get_args(DataKind) else ""
        if wrong := wrong or own_names.add(kind, reader, READERS, own_names.READERS):
            raise ConfigError(wrong, where="data.kind", remedy="give the layout a name of its own")
        return reader

    return keep


def task_classes(cfg: DataConfig) -> tuple[str, ...]:
    """The task's classes: those of the configuration, or the published ones where a reader knows them."""
    if cfg.classes or cfg.kind != "sunrgbd":
        return cfg.classes
    return tuple(sunrgbd.TASK)


def build_index(cfg: DataConfig, *, faults: Faults | None = None) -> DataIndex:
    """Lists the data set of a configuration.

    Args:
        cfg: The ``data`` section; ``scenes`` are not on disk.
        faults: Takes faulty files in; by default the first of them is an error.

    Raises:
        ConfigError: ``data.root`` is missing.
        DataError: What is wrong with the data set.
    """
    if not cfg.root:
        raise ConfigError(
            "data on disk need a root", where="data.root", remedy="set it in the YAML file, or pass --data FOLDER"
        )
    if (own := READERS.get(cfg.kind)) is not None:
        return own(cfg, Path(cfg.root).expanduser(), faults or Faults())
    root, splits = Path(cfg.root).expanduser(), (cfg.train_split, cfg.test_split)
    if cfg.kind == "sunrgbd":
        return sunrgbd.build_index(
            root,
            rgb=cfg.rgb_folder or "image",
            target=cfg.target_folder or "depth_bfx",
            splits=splits,
            test_fraction=cfg.test_fraction,
            stored=_stored(cfg, sunrgbd.STORED),
            faults=faults,
        )
    if cfg.kind == "diml":
        every, stored = (*splits, *cfg.ti_splits), _stored(cfg, diml.STORED)
        return diml.build_index(root, every, rgb=cfg.rgb_folder, target=cfg.target_folder, stored=stored, faults=faults)
    if cfg.kind == "epfl_nir":
        return epfl_nir.build_index(
            root,
            splits=splits,
            test_fraction=cfg.test_fraction,
            stored=_stored(cfg, epfl_nir.STORED),
            faults=faults,
        )
    if cfg.kind == "lists":
        return lists.build_index(root, cfg.lists, cfg.classes, stored=_stored(cfg, PLAIN), faults=faults)
    return folder.build_index(
        root,
        (*splits, *cfg.ti_splits),
        cfg.rgb_folder or "rgb",
        cfg.target_folder or cfg.modality,
        stored=_stored(cfg, PLAIN),
        faults=faults,
    )


def _stored(cfg: DataConfig, default: Stored) -> Stored:
    return default if cfg.rotated is None else replace(default, rotated=cfg.rotated)
