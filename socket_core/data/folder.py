"""A task made from a data set in the common layout: classes chosen, views divided, images decoded."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from socket_core.data.decode import Progress, check_pair_sizes, decode, decode_many, full_scale_for
from socket_core.data.folder_index import SUFFIXES, Entry, index_folder, of_classes, pair_entries
from socket_core.data.partition import first_views
from socket_core.data.types import Images, Labelled, Modality, Pairs, TransferTask
from socket_core.errors import ConfigError, DataError

__all__ = ["SUFFIXES", "Entry", "index_folder", "load_folder", "pair_entries"]


@dataclass
class _Reader:
    """Decodes sets of entries with one set of options, and counts progress over all of them."""

    root: Path
    size: int
    full_scale: float | None
    cache: Path | None
    progress: Progress | None
    total: int = 0
    done: int = field(default=0, init=False)

    def _advance(self, done: int, _: int) -> None:
        if self.progress is not None:
            self.progress(self.done + done, self.total)

    def images(self, entries: Sequence[Entry], modality: Modality) -> Images:
        """Decode ``entries`` in order; RGB always has full scale 255."""
        paths = [entry.path for entry in entries]
        pixels = decode_many(paths, modality, self.size, root=self.root, cache=self.cache, progress=self._advance)
        self.done += len(paths)
        return Images(pixels, 255.0 if modality == "rgb" else full_scale_for(pixels, self.full_scale))

    def labelled(self, entries: Sequence[Entry], modality: Modality, classes: tuple[str, ...]) -> Labelled:
        """Decode ``entries``; the label is the position of the entry's class in ``classes``."""
        labels = np.array([classes.index(entry.label) for entry in entries], dtype=np.int64)
        return Labelled(self.images(entries, modality), labels)


@dataclass(frozen=True)
class _Split:
    """The indexed RGB and target images of one split."""

    rgb: list[Entry]
    target: list[Entry]

    def of(self, classes: Iterable[str], where: str) -> _Split:
        """Only these classes, each of which must be in both modalities."""
        names = tuple(classes)
        rgb, target = (
            of_classes(self.rgb, names, f"{where} (rgb)"),
            of_classes(self.target, names, f"{where} (target)"),
        )
        return _Split(rgb, target)

    def divided(self, fraction: float) -> tuple[_Split, _Split]:
        """The first ``fraction`` of the views of each class, and the rest; see :func:`first_views`."""
        first = first_views([e.view for e in (*self.rgb, *self.target)], fraction)
        return (
            _Split([e for e in self.rgb if e.view in first], [e for e in self.target if e.view in first]),
            _Split([e for e in self.rgb if e.view not in first], [e for e in self.target if e.view not in first]),
        )


def _check_options(
    classes: tuple[str, ...], ti_classes: tuple[str, ...] | None, source_fraction: float, validation: float
) -> None:
    """Raise a :class:`ConfigError` for options that contradict each other or the setting."""
    if not classes or len(set(classes)) < len(classes):
        raise ConfigError(f"expected distinct class names, found {list(classes)}", where="data.classes")
    both = sorted(set(classes) & set(ti_classes or ()))
    if both:
        raise ConfigError(
            f"expected task-irrelevant classes outside the task, found {', '.join(both)} in both",
            where="data.ti_classes",
            remedy="remove them from data.ti_classes or from data.classes",
        )
    if not 0.0 < source_fraction <= 1.0:
        raise ConfigError(f"expected above 0 up to 1, found {source_fraction}", where="data.source_fraction")
    if not 0.0 <= validation < 1.0:
        raise ConfigError(f"expected from 0 to below 1, found {validation}", where="validation")


def _ti_pairs(
    splits: Sequence[_Split], classes: tuple[str, ...], ti_classes: tuple[str, ...] | None, where: str
) -> list[tuple[Entry, Entry]]:
    """The task-irrelevant pairs of all ``splits``; a class need not be in every split."""
    everything = [entry for split in splits for entry in (*split.rgb, *split.target)]
    wanted = {entry.label for entry in everything} - set(classes) if ti_classes is None else set(ti_classes)
    if not wanted:
        raise DataError(
            "expected classes outside the task for the task-irrelevant pairs, found none",
            where=where,
            remedy="add paired images of other classes, or shorten data.classes",
        )
    of_classes(everything, wanted, where)
    pairs: list[tuple[Entry, Entry]] = []
    for split in splits:
        rgb, target = ([e for e in half if e.label in wanted] for half in (split.rgb, split.target))
        pairs += pair_entries(rgb, target)
    return pairs


def _check_one_depth(sets: Iterable[tuple[Images, Entry]]) -> None:
    """Target images of all sets share one full scale, hence they must share one bit depth."""
    (first, first_entry), *others = sets
    for images, entry in others:
        if images.pixels.dtype != first.pixels.dtype:
            raise DataError(
                f"expected one bit depth in all target images, found {first.pixels.dtype} and {images.pixels.dtype}",
                where=f"{first_entry.path} and {entry.path}",
                remedy="store all target images with the same bit depth and unit",
            )


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
        ti_splits: Splits whose task-irrelevant pairs are used. They carry no labels and are of other
            classes, so using those of the test split reveals nothing about the test.
        source_fraction: 1.0: the owner's RGB images and the sites' target images are of the same views (the
            protocol of the published work; nothing ever uses that they match). Below 1.0: per class, this share
            of the training views goes to the owner as RGB and the rest to the sites as target images, so that
            no view is at both.
        validation: 0.0: report on the test split. Above 0.0: per class, this share of the training views is
            held out and reported on instead, and the test images of the task are not opened. For choosing
            settings without looking at the test split.
        full_scale: Target pixel value that becomes 1.0; None for 255, allowed with 8-bit images only.
        cache: Folder for decoded images; None for no cache.
        progress: Called as ``progress(done, total)``, in files, over the whole task.

    Raises:
        DataError: Missing, unreadable or unfitting images.
        ConfigError: Options that contradict each other.
    """
    _check_options(classes, ti_classes, source_fraction, validation)
    names = dict.fromkeys((train, *(() if validation else (test,)), *ti_splits))
    splits = {name: _Split(index_folder(root, name, rgb), index_folder(root, name, target)) for name in names}
    learn = splits[train].of(classes, str(root / train))
    if validation:
        held, learn = learn.divided(validation)
    else:
        held = splits[test].of(classes, str(root / test))
    owner, sites = learn.divided(source_fraction) if source_fraction < 1.0 else (learn, learn)
    for part in (held, owner, sites):  # dividing may have emptied a class whose views are not all pairs
        part.of(classes, str(root / train) + ", after dividing the views")
    ti = _ti_pairs([splits[name] for name in dict.fromkeys(ti_splits)], classes, ti_classes, str(root))
    ti_rgb, ti_target = [pair[0] for pair in ti], [pair[1] for pair in ti]
    check_pair_sizes((one.path, two.path) for one, two in ti)
    full_scale_for(decode(sites.target[0].path, modality), full_scale)  # fail now, not after decoding everything

    sets = (owner.rgb, held.rgb, sites.target, held.target, ti_rgb, ti_target)
    reader = _Reader(root, size, full_scale, cache, progress, total=sum(len(part) for part in sets))
    task = TransferTask(
        classes=classes,
        source_train=reader.labelled(owner.rgb, "rgb", classes),
        source_test=reader.labelled(held.rgb, "rgb", classes),
        target_train=reader.labelled(sites.target, modality, classes),
        target_test=reader.labelled(held.target, modality, classes),
        ti=Pairs(reader.images(ti_rgb, "rgb"), reader.images(ti_target, modality)),
    )
    _check_one_depth(
        [
            (task.target_train.images, sites.target[0]),
            (task.target_test.images, held.target[0]),
            (task.ti.target, ti_target[0]),
        ]
    )
    return task
