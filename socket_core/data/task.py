"""A task made from an index: classes chosen, views divided, images decoded. The same for every layout."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from socket_core.data.decode import Progress, check_pair_sizes, decode, decode_many, full_scale_for
from socket_core.data.folder_index import Entry, of_classes, pair_entries
from socket_core.data.index import DataIndex
from socket_core.data.partition import first_views
from socket_core.data.types import Images, Index, Labelled, Modality, Pairs, Sensors, TransferTask
from socket_core.errors import ConfigError, DataError


@dataclass(frozen=True)
class Choice:
    """What a task takes from a data set.

    Attributes:
        classes: The task's classes, in label order.
        ti_classes: Classes of the task-irrelevant pairs; None for all others.
        train: Name of the training split.
        test: Name of the test split.
        ti_splits: Splits whose task-irrelevant pairs are used. They carry no labels and are of other
            classes, so using those of the test split reveals nothing about the test.
        source_fraction: 1.0: the owner's RGB images and the sites' target images are of the same views (the
            protocol of the published work; nothing ever uses that they match). Below 1.0: per class, this share
            of the training views goes to the owner as RGB and the rest to the sites as target images, so that
            no view is at both.
        validation: 0.0: report on the test split. Above 0.0: per class, this share of the training views is
            held out and reported on instead, and the test images of the task are not opened. For choosing
            settings without looking at the test split.
        source_sensors: Sensors whose RGB images the owner has; empty for all.
        target_sensors: Sensors whose target images the sites have; empty for all.
        ti_sensors: Sensors whose pairs the sites have; empty for all.
    """

    classes: tuple[str, ...]
    ti_classes: tuple[str, ...] | None = None
    train: str = "train"
    test: str = "test"
    ti_splits: tuple[str, ...] = ("train",)
    source_fraction: float = 1.0
    validation: float = 0.0
    source_sensors: tuple[str, ...] = ()
    target_sensors: tuple[str, ...] = ()
    ti_sensors: tuple[str, ...] = ()

    @property
    def splits(self) -> tuple[str, ...]:
        """Names of the splits that are needed, each once."""
        return tuple(dict.fromkeys((self.train, *(() if self.validation else (self.test,)), *self.ti_splits)))

    def check(self) -> None:
        """Raise a :class:`ConfigError` for options that contradict each other or the setting."""
        if not self.classes or len(set(self.classes)) < len(self.classes):
            raise ConfigError(f"expected distinct class names, found {list(self.classes)}", where="data.classes")
        both = sorted(set(self.classes) & set(self.ti_classes or ()))
        if both:
            raise ConfigError(
                f"expected task-irrelevant classes outside the task, found {', '.join(both)} in both",
                where="data.ti_classes",
                remedy="remove them from data.ti_classes or from data.classes",
            )
        if not 0.0 < self.source_fraction <= 1.0:
            raise ConfigError(f"expected above 0 up to 1, found {self.source_fraction}", where="data.source_fraction")
        if not 0.0 <= self.validation < 1.0:
            raise ConfigError(f"expected from 0 to below 1, found {self.validation}", where="validation")


@dataclass
class _Decoder:
    """Decodes sets of entries with one set of options, and counts progress over all of them."""

    index: DataIndex
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
        pixels = decode_many(
            paths,
            modality,
            self.size,
            stored=self.index.stored,
            root=self.index.root,
            cache=self.cache,
            progress=self._advance,
        )
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

    @classmethod
    def named(cls, index: DataIndex, name: str) -> _Split:
        """The split of that name, in the order of the index."""
        views = [view for view in index.views if view.split == name]
        return cls(
            [Entry(v.id, v.rgb, v.label, v.sensor) for v in views if v.rgb],
            [Entry(v.id, v.target, v.label, v.sensor) for v in views if v.target],
        )

    def of(self, classes: Iterable[str], where: str) -> _Split:
        """Only these classes, each of which must be in both modalities."""
        names = tuple(classes)
        rgb, target = (
            of_classes(self.rgb, names, f"{where} (rgb)"),
            of_classes(self.target, names, f"{where} (target)"),
        )
        return _Split(rgb, target)

    def by(self, rgb: tuple[str, ...], target: tuple[str, ...]) -> _Split:
        """Only the images of these sensors; empty for all."""
        return _Split(
            [e for e in self.rgb if not rgb or e.sensor in rgb],
            [e for e in self.target if not target or e.sensor in target],
        )

    def divided(self, fraction: float) -> tuple[_Split, _Split]:
        """The first ``fraction`` of the views of each class, and the rest; see :func:`first_views`."""
        first = first_views([e.view for e in (*self.rgb, *self.target)], fraction)
        return (
            _Split([e for e in self.rgb if e.view in first], [e for e in self.target if e.view in first]),
            _Split([e for e in self.rgb if e.view not in first], [e for e in self.target if e.view not in first]),
        )


def _check_sensors(index: DataIndex, choice: Choice) -> None:
    for key in ("source_sensors", "target_sensors", "ti_sensors"):
        if unknown := sorted(set(getattr(choice, key)) - set(index.sensors)):
            raise ConfigError(
                f"expected sensors of the data set, found {', '.join(unknown)}",
                where=f"data.{key}",
                remedy=f"the sensors in {index.root} are: {', '.join(index.sensors) or 'not named'}",
            )


def _ti_pairs(splits: Sequence[_Split], choice: Choice, where: str) -> list[tuple[Entry, Entry]]:
    """The task-irrelevant pairs of all ``splits``; a class need not be in every split."""
    everything = [entry for split in splits for entry in (*split.rgb, *split.target)]
    labels = {entry.label for entry in everything}
    wanted = labels - set(choice.classes) if choice.ti_classes is None else set(choice.ti_classes)
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


@dataclass(frozen=True)
class _Parts:
    """Who gets which files."""

    held: _Split
    owner: _Split
    sites: _Split
    ti: list[tuple[Entry, Entry]]


def _divide(index: DataIndex, choice: Choice) -> _Parts:
    """Choose and divide the views of the index."""
    by = choice.source_sensors, choice.target_sensors
    splits = {name: _Split.named(index, name) for name in choice.splits}
    learn = splits[choice.train].of(choice.classes, index.where(choice.train))
    if choice.validation:
        held, learn = learn.divided(choice.validation)
    else:
        held = splits[choice.test].of(choice.classes, index.where(choice.test))
    owner, sites = learn.divided(choice.source_fraction) if choice.source_fraction < 1.0 else (learn, learn)
    held, owner, sites = (part.by(*by) for part in (held, owner, sites))
    for part in (held, owner, sites):  # dividing may have emptied a class whose views are not all pairs
        part.of(choice.classes, index.where(choice.train) + ", after dividing the views")
    pool = [splits[name].by(choice.ti_sensors, choice.ti_sensors) for name in dict.fromkeys(choice.ti_splits)]
    return _Parts(held, owner, sites, _ti_pairs(pool, choice, str(index.root)))


def _partners(held: _Split) -> Index:
    """Of each target image the position of the RGB image of the same view, -1 without one."""
    rgb = {(entry.view, entry.sensor): i for i, entry in enumerate(held.rgb)}
    return np.array([rgb.get((entry.view, entry.sensor), -1) for entry in held.target], dtype=np.int64)


def _sensors(sites: Sequence[Entry], ti: Sequence[Entry]) -> Sensors | None:
    names = tuple(sorted({entry.sensor for entry in sites}))
    if not all(names):
        return None
    names += tuple(sorted({entry.sensor for entry in ti} - set(names)))
    numbers = [np.array([names.index(e.sensor) for e in part], dtype=np.int64) for part in (sites, ti)]
    return Sensors(names, numbers[0], numbers[1])


def make_task(
    index: DataIndex,
    choice: Choice,
    *,
    size: int,
    modality: Modality,
    full_scale: float | None = None,
    cache: Path | None = None,
    progress: Progress | None = None,
) -> TransferTask:
    """Make a task from a data set.

    Args:
        index: What lies on disk.
        choice: What to take.
        size: Height and width of all images, in pixels.
        modality: What the target images are.
        full_scale: Target pixel value that becomes 1.0; None for 255, allowed with 8-bit images only.
        cache: Folder for decoded images; None for no cache.
        progress: Called as ``progress(done, total)``, in files, over the whole task.

    Raises:
        DataError: Missing, unreadable or unfitting images.
        ConfigError: Options that contradict each other.
    """
    choice.check()
    _check_sensors(index, choice)
    parts, classes = _divide(index, choice), choice.classes
    owner, held, sites = parts.owner, parts.held, parts.sites
    ti_rgb, ti_target = [pair[0] for pair in parts.ti], [pair[1] for pair in parts.ti]
    check_pair_sizes((one.path, two.path) for one, two in parts.ti)
    # Fail now, not after decoding everything.
    full_scale_for(decode(sites.target[0].path, modality, index.stored), full_scale)

    sets = (owner.rgb, held.rgb, sites.target, held.target, ti_rgb, ti_target)
    decoder = _Decoder(index, size, full_scale, cache, progress, total=sum(len(part) for part in sets))
    task = TransferTask(
        classes=classes,
        source_train=decoder.labelled(owner.rgb, "rgb", classes),
        source_test=decoder.labelled(held.rgb, "rgb", classes),
        target_train=decoder.labelled(sites.target, modality, classes),
        target_test=decoder.labelled(held.target, modality, classes),
        ti=Pairs(decoder.images(ti_rgb, "rgb"), decoder.images(ti_target, modality)),
        sensors=_sensors(sites.target, ti_target),
        partners=_partners(held),
    )
    _check_one_depth(
        [
            (task.target_train.images, sites.target[0]),
            (task.target_test.images, held.target[0]),
            (task.ti.target, ti_target[0]),
        ]
    )
    return task
