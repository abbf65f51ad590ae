"""What becomes of a round's replies as they arrive: screened, written to a file each, and let go.

The sum needs all weights and a fixed order, and both are known only when the last reply is there. So updates wait on
the disk and not in memory, in the type in which they came; aggregation reads them back a stretch at a time. Nothing of
it is needed after a crash: a round that was interrupted is asked for again.
"""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from types import TracebackType

from flwr.app import Message

from protos.codec import size_of
from server.aggregation import SiteUpdate, Statistics
from server.screening import Expectation, Rejected, Why, screen
from server.waiting import put_down, unwritable
from socket_core.packing import Change, Packed


class Intake:
    """Takes a round's replies; leaves nothing behind when the round is over.

    Args:
        folder: An own folder; emptied first.
        expected: What each update must satisfy.

    Attributes:
        refused: Why each site that is left out is.
        bytes_up: Bytes of all replies, of those that are left out too.
    """

    def __init__(self, folder: Path, expected: Expectation) -> None:
        self._folder, self._expected = folder, expected
        self._updates: dict[str, SiteUpdate] = {}
        self.refused: dict[str, Rejected] = {}
        self.bytes_up = 0

    def __enter__(self) -> Intake:
        shutil.rmtree(self._folder, ignore_errors=True)  # of a round that was interrupted
        try:
            self._folder.mkdir(parents=True)
        except OSError as error:
            raise unwritable(self._folder, error) from None
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)

    def take(self, site: str, reply: Message | None) -> bool:
        """Screens one site's reply, or its silence; a site that answers twice keeps its first answer.

        Returns:
            Whether it may be summed.

        Raises:
            FederationError: If the update cannot be written.
        """
        if reply is not None and reply.has_content():
            self.bytes_up += size_of(reply.content)
        try:
            if site in self._updates:
                raise Rejected(Why.DUPLICATE_SITE, "a second answer under this name")
            update = screen(reply, site, self._expected)
        except Rejected as rejected:
            self.refused[site] = rejected
            return False
        self._updates[site] = self._put_down(update)
        return True

    def updates(self) -> list[SiteUpdate]:
        """All that may be summed, in site-name order."""
        return [self._updates[name] for name in sorted(self._updates)]

    def _put_down(self, update: SiteUpdate) -> SiteUpdate:
        """The same update with its arrays in a file."""
        path = self._folder / f"{len(self._updates):06d}.bin"  # a site's name does not choose where a file is written
        arrays = [update.delta]
        if update.batchnorm is not None:
            arrays += [update.batchnorm.mean, update.batchnorm.var]
        delta, *moments = put_down(path, [_in_memory(array) for array in arrays])
        return replace(update, delta=delta, batchnorm=Statistics(*moments) if moments else None)


def _in_memory(change: Change) -> Packed:
    """What screening has just read out of a message: it is always packed, which its type does not say."""
    if not isinstance(change, Packed):
        raise TypeError("only what is in memory is written down")
    return change
