"""Progress: one line on a terminal, with the time left of a job of many parts; plain sentences elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from server.tally import Part, Tally, duration

SAY_AFTER = 5.0
"""Seconds between two plain progress lines."""


class Display:
    """Where progress goes: standard error, so that standard output has the results alone.

    Args:
        quiet: Show nothing but errors.
    """

    def __init__(self, *, quiet: bool = False) -> None:
        self.console = Console(stderr=True, quiet=quiet)
        self._whole: Whole | None = None

    def say(self, text: str) -> None:
        """One line of plain text."""
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def insist(self, text: str) -> None:
        """A line that is shown even if nothing but errors is."""
        Console(stderr=True).print(text, markup=False, highlight=False, soft_wrap=True)

    @contextmanager
    def whole(self, parts: Mapping[Hashable, Part]) -> Iterator[Whole]:
        """One line for a job of many parts; tasks inside are named in it and have none of their own."""
        if not self.console.is_terminal:
            self._whole = Whole(Tally(parts), self._sentences())
        else:
            self._whole = Whole(Tally(parts), lambda _text: None)
        try:
            if self.console.is_terminal:
                with self._line(self._whole):
                    yield self._whole
            else:
                yield self._whole
        finally:
            self._whole = None

    @contextmanager
    def task(self, name: str) -> Iterator[Callable[[int, int], None]]:
        """A task with a bar; call the result with (done, total).

        Tasks that never report show nothing, so that what is reused stays silent.
        """
        if (whole := self._whole) is not None:
            yield lambda done, total: whole.now(f"{name} {done} of {total}")
        elif self.console.is_terminal:
            with self._bar() as bar:
                identifier = bar.add_task(name, total=None, visible=False)
                yield lambda done, total: bar.update(identifier, completed=done, total=total, visible=True)
        else:
            say = self._sentences()
            yield lambda done, total: say(f"{name}: {done} of {total}")

    def _bar(self) -> Progress:
        return Progress(
            TextColumn("{task.description:<32}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=self.console,
        )

    @contextmanager
    def _line(self, whole: Whole) -> Iterator[None]:
        columns = (BarColumn(bar_width=24), _Words(whole), TimeElapsedColumn())
        with Progress(*columns, console=self.console, refresh_per_second=2) as bar:
            identifier = bar.add_task("", total=1.0)
            whole.shown = lambda: bar.update(identifier, completed=whole.tally.share)
            yield

    def _sentences(self) -> Callable[[str], None]:
        """What says a sentence, unless it said one just before."""
        last = time.monotonic()

        def say(text: str) -> None:
            nonlocal last
            if time.monotonic() - last >= SAY_AFTER:
                last = time.monotonic()
                self.say(text)

        return say


class Whole:
    """The one line of a job of many parts.

    Args:
        tally: What is done of it.
        say: Where there is no terminal, takes the line whenever it changes.
    """

    def __init__(self, tally: Tally, say: Callable[[str], None]) -> None:
        self.tally = tally
        self.shown: Callable[[], None] = lambda: None
        self._say, self._now = say, ""

    def begin(self) -> None:
        """From now on time tells how fast the work is."""
        self.tally.begin()

    def keep(self, name: Hashable) -> None:
        """A part that is there from an earlier run."""
        self.tally.keep(name)
        self.shown()

    def report(self, name: Hashable, done: float = 1, of: float = 1) -> None:
        """Part of a part is done; without numbers all of it."""
        self.tally.report(name, done, of)
        self.shown()
        self._say(self.text())

    def now(self, what: str) -> None:
        """What is being done."""
        self._now = what
        self._say(self.text())

    def text(self) -> str:
        """The line: results, time left, what is being done."""
        done, of = self.tally.results
        left = self.tally.left()
        words = [f"{done} of {of} results"]
        if done < of:
            words += [f"about {duration(left)} left"] if left is not None else []
            words += [self._now] * bool(self._now)
        return ", ".join(words)


class _Words(ProgressColumn):
    """The line of a whole, worked out anew at each refresh: the time left runs down between two reports."""

    def __init__(self, whole: Whole) -> None:
        self._whole = whole
        super().__init__()

    def render(self, task: Task) -> Text:
        """The text."""
        return Text(self._whole.text(), no_wrap=True, overflow="ellipsis")
