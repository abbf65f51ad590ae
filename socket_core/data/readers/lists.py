"""List files as the released SOCKET uses them: each line is a path and a number of its class.

Six lists: source training and test (RGB), target training and test, and the two halves of the task-irrelevant
pairs, line by line. Paths are relative to the root.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from socket_core.config import ListFiles
from socket_core.data.decode import PLAIN, Stored
from socket_core.data.index import DataIndex, Faults, View
from socket_core.errors import ConfigError, DataError

TRAIN, TEST = "train", "test"
TI_LABEL = "(task-irrelevant)"
"""Stands for the class of every pair: numbers in their lists, if any, mean nothing to the task."""


@dataclass
class _Lists:
    """Reads lists, and knows which file has been seen where."""

    root: Path
    classes: tuple[str, ...]
    faults: Faults
    seen: dict[Path, str] = field(default_factory=dict)

    def labelled(self, key: str, name: str) -> list[tuple[str, str, Path]]:
        """``(path as written, class, file)`` of each usable line of a list of the task."""
        out = []
        for number, line in self._lines(key, name):
            text, _, last = line.rpartition(" ")
            if not text or not last.isdecimal() or int(last) >= len(self.classes):
                self.faults.report(
                    f"line {number}: expected a path and a class number from 0 to {len(self.classes) - 1}, "
                    f"found {line!r}",
                    where=self.root / name,
                    remedy="correct the line, or data.classes, which names the classes in the order of their numbers",
                )
                continue
            path = self._file(text.strip(), name, number)
            if path is not None:
                out.append((text.strip(), self.classes[int(last)], path))
        return out

    def pairs(self, lists: ListFiles) -> list[View]:
        """The pairs whose halves are both usable."""
        rgb, target = self._lines("ti_rgb", lists.ti_rgb), self._lines("ti_target", lists.ti_target)
        if len(rgb) != len(target):
            raise DataError(
                f"expected as many lines as in {lists.ti_rgb}, {len(rgb)}, found {len(target)}",
                where=str(self.root / lists.ti_target),
                remedy="line n of one list must be the other half of line n of the other",
            )
        views = []
        for (number, one), (other_number, two) in zip(rgb, target, strict=True):
            names = _path_of(one), _path_of(two)
            first = self._file(names[0], lists.ti_rgb, number)
            second = self._file(names[1], lists.ti_target, other_number)
            if first is not None and second is not None:
                views.append(View(names[0], TI_LABEL, TRAIN, rgb=first, target=second))
            elif self.faults.collect:
                self.faults.found += [(half, "left out with its other half") for half in (first, second) if half]
        return views

    def _lines(self, key: str, name: str) -> list[tuple[int, str]]:
        """The lines that are not empty, with their numbers."""
        if not name:
            raise ConfigError(
                "expected the name of a list file, found none",
                where=f"data.lists.{key}",
                remedy="set all six: source_train, source_test, target_train, target_test, ti_rgb, ti_target",
            )
        path = self.root / name
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(
                f"expected a list file in UTF-8 ({error})",
                where=str(path),
                remedy=f"correct data.root or data.lists.{key}",
            ) from None
        lines = [(number, line.strip()) for number, line in enumerate(text.splitlines(), 1) if line.strip()]
        if not lines:
            raise DataError("expected lines, found none", where=str(path), remedy=f"correct data.lists.{key}")
        return lines

    def _file(self, text: str, name: str, number: int) -> Path | None:
        """The file of a line, unless it is missing or has been listed before."""
        path = self.root / text
        if path in self.seen:
            # One image in two lists is a leak (training and test), or a class in both the task and the pairs.
            self.faults.report(
                f"line {number}: {text!r} is listed already, in {self.seen[path]}",
                where=self.root / name,
                remedy="an image may be in one list only, once",
            )
            return None
        self.seen[path] = f"{name}, line {number}"
        if not _is_file(path):
            self.faults.report(
                f"line {number}: expected the file {path}, found none",
                where=self.root / name,
                others=(path,),
                remedy="correct the path, which is relative to data.root, or remove the line",
            )
            return None
        return path


def build_index(
    root: Path,
    lists: ListFiles,
    classes: tuple[str, ...],
    *,
    stored: Stored = PLAIN,
    faults: Faults | None = None,
) -> DataIndex:
    """Lists the views in the order of their lists: training and test of the task, then the pairs.

    Args:
        root: Folder that lists and images are relative to.
        lists: The six lists.
        classes: Names of the classes, in the order of their numbers.
        stored: How target files hold their values.
        faults: Takes faulty lines in; by default the first of them is an error.

    Raises:
        ConfigError: A list is not named.
        DataError: A list or a file is missing, a line is wrong, an image is listed twice, or the two lists of
            pairs differ in length.
    """
    faults = faults or Faults()
    reader = _Lists(root, classes, faults)
    views = []
    for split, source, target in (
        (TRAIN, "source_train", "target_train"),
        (TEST, "source_test", "target_test"),
    ):
        for key in (source, target):
            for name, label, path in reader.labelled(key, getattr(lists, key)):
                views.append(
                    View(name, label, split, rgb=path) if key == source else View(name, label, split, target=path)
                )
    views += reader.pairs(lists)
    return DataIndex(root, tuple(views), stored, paired=False, skipped=tuple(faults.found))


def _is_file(path: Path) -> bool:
    """A name that no file can have, for its length, is no file either."""
    try:
        return path.is_file()
    except OSError:
        return False


def _path_of(line: str) -> str:
    """The path of a line that may or may not end with a number."""
    text, _, last = line.rpartition(" ")
    return text.strip() if text and last.isdecimal() else line
