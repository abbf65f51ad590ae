"""Progress on a terminal: one line a task while it runs; plain sentences where there is no terminal."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

SAY_AFTER = 3.0
"""Seconds between two plain progress lines."""


class Display:
    """Where progress goes.

    Args:
        quiet: Show nothing but errors.
    """

    def __init__(self, *, quiet: bool = False) -> None:
        self.console = Console(stderr=True, quiet=quiet)

    def say(self, text: str) -> None:
        """One line of plain text."""
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)

    @contextmanager
    def task(self, name: str) -> Iterator[Callable[[int, int], None]]:
        """A task with a bar; call the result with (done, total).

        Tasks that never report show nothing, so that what is reused stays silent.
        """
        if self.console.is_terminal:
            with self._bar() as bar:
                identifier = bar.add_task(name, total=None, visible=False)
                yield lambda done, total: bar.update(identifier, completed=done, total=total, visible=True)
        else:
            yield self._lines(name)

    def _bar(self) -> Progress:
        return Progress(
            TextColumn("{task.description:<32}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=self.console,
        )

    def _lines(self, name: str) -> Callable[[int, int], None]:
        last = time.monotonic()

        def report(done: int, total: int) -> None:
            nonlocal last
            if time.monotonic() - last >= SAY_AFTER or done == total:
                last = time.monotonic()
                self.say(f"{name}: {done} of {total}")

        return report
