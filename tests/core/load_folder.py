"""A task from the common layout in one call, as tests of that layout want it."""

from __future__ import annotations

from pathlib import Path

from socket_core.data.decode import Progress
from socket_core.data.folder_index import Entry, index_folder, pair_entries
from socket_core.data.index import SUFFIXES
from socket_core.data.readers.folder import build_index
from socket_core.data.task import Choice, make_task
from socket_core.data.types import Modality, TransferTask

__all__ = ["SUFFIXES", "Entry", "index_folder", "load_folder", "pair_entries"]


def load_folder(
    root: Path,
    *,
    size: int,
    modality: Modality,
    classes: tuple[str, ...],
    ti_classes: tuple[str, ...] | None = None,
    rgb: str = "rgb",
    target: str = "depth",
    train: str = "train",
    test: str = "test",
    ti_splits: tuple[str, ...] = ("train",),
    source_fraction: float = 1.0,
    validation: float = 0.0,
    full_scale: float | None = None,
    cache: Path | None = None,
    progress: Progress | None = None,
) -> TransferTask:
    """Make a task from a data set in the common layout.

    Args:
        root: The data set.
        size: Height and width of all images, in pixels.
        modality: What the target images are.
        classes: The task's classes, in label order.
        ti_classes: Classes of the task-irrelevant pairs; None for all others.
        rgb: Folder name of the RGB images.
        target: Folder name of the target images.
        train: Folder name of the training split.
        test: Folder name of the test split.
        ti_splits: As for :class:`socket_core.data.task.Choice`.
        source_fraction: As for :class:`socket_core.data.task.Choice`.
        validation: As for :class:`socket_core.data.task.Choice`.
        full_scale: Target pixel value that becomes 1.0; None for 255, allowed with 8-bit images only.
        cache: Folder for decoded images; None for no cache.
        progress: Called as ``progress(done, total)``, in files, over the whole task.

    Raises:
        DataError: Missing, unreadable or unfitting images.
        ConfigError: Options that contradict each other.
    """
    choice = Choice(classes, ti_classes, train, test, ti_splits, source_fraction, validation)
    choice.check()
    index = build_index(root, choice.splits, rgb, target)
    return make_task(index, choice, size=size, modality=modality, full_scale=full_scale, cache=cache, progress=progress)
