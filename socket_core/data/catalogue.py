"""From a configuration to images: which source of data, and who gets which share of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from socket_core.config import DataConfig, Experiment
from socket_core.data.folder import load_folder
from socket_core.data.partition import iid_partition, partition
from socket_core.data.scenes import load_scenes
from socket_core.data.types import Images, Index, Pairs, SiteData, TransferTask
from socket_core.errors import ConfigError
from socket_core.seeds import derive_seed

Progress = Callable[[int, int], None]


def load_task(cfg: DataConfig, *, cache: Path | None, progress: Progress | None = None) -> TransferTask:
    """All data of an experiment.

    Args:
        cfg: The ``data`` section.
        cache: Folder for rendered or decoded images; None keeps nothing on disk.
        progress: Called with (done, total) images.
    """
    if cfg.kind == "scenes":
        counts = cfg.scenes.model_dump()
        return load_scenes(
            size=cfg.size, modality=cfg.modality, seed=cfg.seed, cache=cache, progress=progress, **counts
        )
    if not cfg.root or not cfg.classes:
        raise ConfigError(
            "folder data need a root and the task's classes",
            where="data.root, data.classes",
            remedy="set both, or pass --data FOLDER",
        )
    return load_folder(
        Path(cfg.root).expanduser(),
        size=cfg.size,
        modality=cfg.modality,
        target=cfg.modality,
        classes=cfg.classes,
        ti_classes=cfg.ti_classes,
        ti_splits=cfg.ti_splits,
        source_fraction=cfg.source_fraction,
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

    TI pairs have no labels that could be skewed: each site simply has its own.
    """
    spec, seed = experiment.federation.partition, experiment.seed
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
