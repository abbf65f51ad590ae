"""From a configuration to images: which source of data, and who gets which share of it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from socket_core.config import DataConfig, Experiment
from socket_core.data.broken import leave_out_broken
from socket_core.data.index import Faults
from socket_core.data.partition import iid_partition, parse_partition, partition, sensor_partition
from socket_core.data.readers import build_index, lists, task_classes
from socket_core.data.scenes import load_scenes
from socket_core.data.task import Choice, make_task
from socket_core.data.ti_choice import choose_pairs
from socket_core.data.types import Images, Index, Pairs, SiteData, TransferTask
from socket_core.errors import ConfigError
from socket_core.seeds import derive_seed

Progress = Callable[[int, int], None]
_LOG = logging.getLogger(__name__)


def load_task(cfg: DataConfig, *, cache: Path | None, progress: Progress | None = None) -> TransferTask:
    """All data of an experiment.

    Args:
        cfg: The ``data`` section.
        cache: Folder for rendered or decoded images; None keeps nothing on disk.
        progress: Called with (done, total) images.
    """
    task = _whole_task(cfg, cache, progress)
    pairs = choose_pairs(task.ti, cfg, cache)
    if pairs is task.ti:
        return task
    if task.sensors is not None:
        raise ConfigError(
            "pairs of data with sensors are chosen by sensor",
            where="data.ti_fraction, data.ti_from",
            remedy="use data.ti_sensors, or data without sensors",
        )
    return replace(task, ti=pairs)


def _whole_task(cfg: DataConfig, cache: Path | None, progress: Progress | None) -> TransferTask:
    if cfg.kind == "scenes":
        counts = cfg.scenes.model_dump()
        return load_scenes(
            size=cfg.size, modality=cfg.modality, seed=cfg.seed, cache=cache, progress=progress, **counts
        )
    classes = task_classes(cfg)
    if not cfg.root or not classes:
        raise ConfigError(
            f"{cfg.kind} data need a root and the task's classes",
            where="data.root, data.classes",
            remedy="set both, or pass --data FOLDER",
        )
    choice = Choice(
        classes,
        ti_classes=cfg.ti_classes,
        train=lists.TRAIN if cfg.kind == "lists" else cfg.train_split,
        test=lists.TEST if cfg.kind == "lists" else cfg.test_split,
        ti_splits=(lists.TRAIN,) if cfg.kind == "lists" else cfg.ti_splits,
        source_fraction=cfg.source_fraction,
        source_sensors=cfg.source_sensors,
        target_sensors=cfg.target_sensors,
        ti_sensors=cfg.ti_sensors,
    )
    choice.check()
    index = build_index(cfg, faults=Faults(collect=cfg.skip_broken))
    if cfg.skip_broken:
        index = leave_out_broken(index, cfg.modality, classes, cache=cache, progress=progress)
        if index.skipped:  # counted, not named: logs hold no file names of images
            _LOG.warning("%d files are left out; socket-site check --data lists them", len(index.skipped))
    return make_task(
        index,
        choice,
        size=cfg.size,
        modality=cfg.modality,
        full_scale=cfg.full_scale,
        cache=cache,
        progress=progress,
    )


@dataclass(frozen=True)
class Share:
    """One site's part: what it adapts on, and the labels that only reports may use."""

    data: SiteData
    tr_labels: Index


def site_name(index: int) -> str:
    """Stable name of a simulated site."""
    return f"site-{index:02d}"


def split_task(task: TransferTask, experiment: Experiment, sites: int) -> list[Share]:
    """Splits TR images by ``federation.partition`` and TI pairs evenly; no image is at two sites.

    TI pairs have no labels that could be skewed: each site simply has its own. With ``sensor``, images and
    pairs are where their sensor is; sites are numbered in the order of the sensors' names.

    Raises:
        ConfigError: ``sensor`` with data that name no sensors, or with another number of sites.
        DataError: Too few images or pairs.
    """
    spec, seed = experiment.federation.partition, experiment.seed
    if parse_partition(spec)[0] == "sensor":
        if task.sensors is None:
            raise ConfigError(
                "expected data that name the sensors, found none",
                where="federation.partition",
                remedy="use data.kind sunrgbd, or the partition iid or dirichlet:ALPHA",
            )
        tr, ti = sensor_partition(task.sensors.names, task.sensors.target_train, task.sensors.ti, sites)
    else:
        tr = partition(task.target_train.labels, sites, spec, derive_seed(seed, "partition"))
        ti = iid_partition(len(task.ti), sites, derive_seed(seed, "partition ti"))
    shares = []
    for tr_index, ti_index in zip(tr, ti, strict=True):
        own = task.target_train.take(tr_index)
        shares.append(Share(SiteData(own.images, task.ti.take(ti_index)), own.labels))
    return shares


def pool_shares(shares: list[Share]) -> Share:
    """All shares in one place, as a centralised comparison needs them; one share comes back unchanged."""
    if len(shares) == 1:
        return shares[0]
    tr = _join([s.data.tr for s in shares])
    rgb, target = _join([s.data.ti.rgb for s in shares]), _join([s.data.ti.target for s in shares])
    return Share(SiteData(tr, Pairs(rgb, target)), np.concatenate([s.tr_labels for s in shares]))


def _join(parts: list[Images]) -> Images:
    return Images(np.concatenate([p.pixels for p in parts]), parts[0].full_scale)
