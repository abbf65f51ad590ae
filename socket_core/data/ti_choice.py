"""Which TI pairs a task works with: its own, a share of them, or pairs of another domain. For ablations."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from socket_core.config import DataConfig
from socket_core.data.decode import check_pair_sizes, decode_many, full_scale_for
from socket_core.data.folder_index import index_folder, pair_entries
from socket_core.data.scenes import load_scenes
from socket_core.data.types import Images, Pairs
from socket_core.errors import ConfigError
from socket_core.seeds import derive_seed


def choose_pairs(own: Pairs, cfg: DataConfig, cache: Path | None) -> Pairs:
    """The pairs that ``data.ti_from`` and ``data.ti_fraction`` ask for.

    Args:
        own: The task's own pairs.
        cfg: The ``data`` section.
        cache: Folder for rendered or decoded images; None keeps nothing on disk.

    Raises:
        ConfigError: If ``data.ti_from`` is ``folder`` and no folder is named.
        DataError: If the folder of another domain is missing, unreadable or not paired.
    """
    pairs = own if cfg.ti_from == "task" else _of_scenes(cfg, cache) if cfg.ti_from == "scenes" else _of(cfg, cache)
    if cfg.ti_fraction == 1.0:
        return pairs
    order = np.random.default_rng(derive_seed(cfg.seed, "ti fraction")).permutation(len(pairs))
    return pairs.take(np.sort(order[: max(1, round(cfg.ti_fraction * len(pairs)))]))


def _of_scenes(cfg: DataConfig, cache: Path | None) -> Pairs:
    counts = cfg.scenes.model_dump()
    return load_scenes(size=cfg.size, modality=cfg.modality, seed=cfg.seed, cache=cache, **counts).ti


def _of(cfg: DataConfig, cache: Path | None) -> Pairs:
    """All pairs of a folder in the common layout, whatever their class: each shows something else than the task."""
    if not cfg.ti_root:
        raise ConfigError(
            "pairs of another domain need a folder", where="data.ti_root", remedy="set it in the YAML file"
        )
    root = Path(cfg.ti_root).expanduser()
    pairs = [
        pair
        for split in dict.fromkeys(cfg.ti_splits)
        for pair in pair_entries(index_folder(root, split, "rgb"), index_folder(root, split, cfg.modality))
    ]
    check_pair_sizes([(one.path, two.path) for one, two in pairs])
    rgb = decode_many([one.path for one, _ in pairs], "rgb", cfg.size, root=root, cache=cache)
    target = decode_many([two.path for _, two in pairs], cfg.modality, cfg.size, root=root, cache=cache)
    return Pairs(Images(rgb, 255.0), Images(target, full_scale_for(target, cfg.full_scale)))
