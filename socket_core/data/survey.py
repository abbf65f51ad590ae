"""What a data set holds and what is wrong with it, found by decoding every file."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any

from socket_core.config import DataConfig
from socket_core.data.broken import find_broken
from socket_core.data.decode import Progress
from socket_core.data.index import DataIndex, Faults, Skipped
from socket_core.data.readers import build_index, task_classes


@dataclass(frozen=True)
class Survey:
    """What a data set holds.

    Attributes:
        kind: Its layout.
        root: Its folder.
        modality: Of its target images.
        bits: A pixel of its target images; 0 if none can be used.
        classes: Usable files: class -> split -> ``rgb``, ``target``, ``pairs`` -> count.
        task: The task's classes, empty if nothing names them.
        lacking: Classes of the task without usable RGB images, or without usable target images.
        pairs: Usable pairs of classes outside the task.
        unpaired: Usable images without their other half.
        sensors: Usable views by sensor; empty where the data set does not name them.
        skipped: Files that cannot be used, and why.
    """

    kind: str
    root: str
    modality: str
    bits: int
    classes: dict[str, dict[str, dict[str, int]]]
    task: tuple[str, ...]
    lacking: tuple[str, ...]
    pairs: int
    unpaired: int
    sensors: dict[str, int]
    skipped: tuple[Skipped, ...]

    def plain(self) -> dict[str, Any]:
        """As values that JSON knows."""
        return asdict(self) | {"skipped": [{"file": str(path), "reason": reason} for path, reason in self.skipped]}


def survey(cfg: DataConfig, progress: Progress | None = None) -> Survey:
    """Lists and decodes the data set of a configuration.

    Args:
        cfg: The ``data`` section; ``skip_broken`` is not read, faults are always collected.
        progress: Called as ``progress(done, total)``, in files.

    Raises:
        ConfigError: The configuration does not describe data on disk.
        DataError: The layout is not what the kind says.
    """
    index, task = build_index(cfg, faults=Faults(collect=True)), task_classes(cfg)
    broken, bits = find_broken(index, cfg.modality, progress)
    usable = index.without(broken)
    if task or index.paired:
        usable = usable.without(usable.unpaired(task))
    there = [
        {view.label for view in usable.views if half in _halves(view.rgb is not None, view.target is not None)}
        for half in ("rgb", "target")
    ]
    return Survey(
        kind=cfg.kind,
        root=str(usable.root),
        modality=cfg.modality,
        bits=bits,
        classes=_counts(usable),
        task=task,
        lacking=tuple(name for name in task if not all(name in labels for labels in there)),
        pairs=sum(len(view.files) == 2 and view.label not in task for view in usable.views),
        unpaired=sum(len(view.files) == 1 for view in usable.views),
        sensors=dict(sorted(Counter(view.sensor for view in usable.views if view.sensor).items())),
        skipped=usable.skipped,
    )


def _halves(rgb: bool, target: bool) -> tuple[str, ...]:
    names = {"rgb": rgb, "target": target, "pairs": rgb and target}
    return tuple(name for name, there in names.items() if there)


def _counts(index: DataIndex) -> dict[str, dict[str, dict[str, int]]]:
    counts: dict[str, dict[str, dict[str, int]]] = {}
    for view in index.views:
        of_split = counts.setdefault(view.label, {}).setdefault(view.split, {"rgb": 0, "target": 0, "pairs": 0})
        for name in _halves(view.rgb is not None, view.target is not None):
            of_split[name] += 1
    return dict(sorted(counts.items()))
