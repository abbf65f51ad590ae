"""What lies on disk, before anything is decoded: the views of a data set, whatever its layout.

Every reader in ``socket_core/data/readers`` makes a :class:`DataIndex`; all that follows (classes, splits, pairs,
sites) is written once, for all of them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

from socket_core.data.decode import PLAIN, Stored
from socket_core.errors import DataError

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".pgm", ".ppm", ".webp"})

Skipped = tuple[Path, str]
"""A file that is not used, and why."""


@dataclass(frozen=True)
class View:
    """One view of a scene: an RGB image, a target image, or both.

    Attributes:
        id: Name of the view, unique within its split and class.
        label: Name of its class.
        split: Name of its split.
        sensor: Name of the sensor, empty where the data set does not say.
        rgb: The RGB half, None if there is none.
        target: The depth or infrared half, None if there is none.
    """

    id: str
    label: str
    split: str
    sensor: str = ""
    rgb: Path | None = None
    target: Path | None = None

    @property
    def files(self) -> tuple[Path, ...]:
        """The halves that are there, RGB first."""
        return tuple(half for half in (self.rgb, self.target) if half is not None)


@dataclass(frozen=True)
class DataIndex:
    """All views of a data set, in the order in which they are used.

    Attributes:
        root: The data set's folder.
        views: The views; those of one split are sorted by class and id unless lists say otherwise.
        stored: How its target files hold their values.
        skipped: What was left out because it was asked to skip broken files.
        paired: Whether the layout promises both halves of every view.
    """

    root: Path
    views: tuple[View, ...]
    stored: Stored = PLAIN
    skipped: tuple[Skipped, ...] = ()
    paired: bool = True

    @property
    def sensors(self) -> tuple[str, ...]:
        """Names of the sensors, sorted; empty where the data set does not name them."""
        return tuple(sorted({view.sensor for view in self.views} - {""}))

    def where(self, split: str) -> str:
        """The split, for messages."""
        folder = self.root / split
        return str(folder) if folder.is_dir() else f"{self.root}, split {split!r}"

    def without(self, broken: Collection[Skipped]) -> DataIndex:
        """Less the views that any of the files belongs to: a broken half takes its other half with it."""
        files = {path for path, _ in broken}
        kept, partners = [], []
        for view in self.views:
            if files.isdisjoint(view.files):
                kept.append(view)
            else:
                partners += [(path, "left out with its other half") for path in view.files if path not in files]
        return replace(self, views=tuple(kept), skipped=(*self.skipped, *broken, *partners))

    def unpaired(self, task: Collection[str]) -> list[Skipped]:
        """Files of classes outside ``task`` whose other half is missing.

        Images of the task need no partner: nothing ever uses that they match.
        """
        alone = [view for view in self.views if len(view.files) == 1 and view.label not in task]
        return [(view.files[0], "its other half is missing") for view in alone]


@dataclass
class Faults:
    """What is wrong with files: the first is an error, or all are collected.

    Attributes:
        collect: Whether to go on after a fault.
        found: The files found wrong so far.
    """

    collect: bool = False
    found: list[Skipped] = field(default_factory=list)

    def report(self, what: str, *, where: Path, remedy: str, others: Iterable[Path] = ()) -> None:
        """Takes a fault in.

        Args:
            what: What was expected and found.
            where: The file.
            remedy: What to do.
            others: Files that cannot be used for the same reason.

        Raises:
            DataError: Naming the file, unless faults are collected.
        """
        if not self.collect:
            raise DataError(what, where=str(where), remedy=remedy)
        self.found += [(path, what) for path in (where, *others)]


def is_image(path: Path) -> bool:
    """Whether the name is that of an image file and not hidden."""
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".")
