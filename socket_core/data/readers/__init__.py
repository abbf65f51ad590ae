"""Readers of data sets: each lists what lies on disk in one layout; see ``docs/data.md`` for adding one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from socket_core.config import DataConfig
from socket_core.data.decode import PLAIN, Stored
from socket_core.data.index import DataIndex, Faults
from socket_core.data.readers import diml, epfl_nir, folder, lists, sunrgbd
from socket_core.errors import ConfigError


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
