"""Changes in files: as they travel, read back a stretch at a time.

What must be kept for a while and not looked at meanwhile lies on the disk (docs/adr/0020): updates that wait to be
summed, and with a rounded download what rounding took and the step that sites will be sent.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from socket_core.errors import FederationError
from socket_core.exchange import Flat
from socket_core.packing import Packed, Values, widened


@dataclass(frozen=True, eq=False)
class Waiting:
    """A change in a file; opened for each stretch, so that a thousand of them need no thousand open files.

    Attributes:
        path: The file.
        offset: Where in it the change begins, in bytes.
        length: Number of values.
        dtype: Of the values in the file.
        scales: As in :class:`socket_core.packing.Packed`.
        ends: Likewise.
    """

    path: Path
    offset: int
    length: int
    dtype: np.dtype[np.generic]
    scales: Flat
    ends: NDArray[np.int64]

    def __len__(self) -> int:
        """Number of values."""
        return self.length

    def floats(self, start: int = 0, stop: int | None = None) -> Flat:
        """Values ``start`` to ``stop`` as float32, read anew each time.

        Raises:
            FederationError: If the file cannot be read.
        """
        return widened(self._read(start, stop), self.scales, self.ends, start)

    def packed(self) -> Packed:
        """The whole change, in memory; errors as :meth:`floats`."""
        return Packed(self._read(0, None), self.scales, self.ends)

    def _read(self, start: int, stop: int | None) -> Values:
        count = len(range(*slice(start, stop).indices(self.length)))
        try:
            values: Values = np.fromfile(self.path, self.dtype, count, offset=self.offset + start * self.dtype.itemsize)
        except OSError as error:
            raise _unreadable(self.path, error.strerror or str(error)) from None
        if len(values) != count:
            raise _unreadable(self.path, "it is cut short")
        return values


def put_down(path: Path, changes: Sequence[Packed]) -> list[Waiting]:
    """The same changes, one behind the other in a new file.

    Args:
        path: The file, in a folder that is there.
        changes: In memory.

    Raises:
        FederationError: If the file cannot be written.
    """
    waiting = []
    try:
        with path.open("xb") as file:
            for change in changes:
                values = change.values
                waiting.append(Waiting(path, file.tell(), len(values), values.dtype, change.scales, change.ends))
                file.write(np.ascontiguousarray(values).data)
    except OSError as error:
        raise unwritable(path, error) from None
    return waiting


def unwritable(path: Path, error: OSError) -> FederationError:
    """The error for a file or folder of waiting changes that cannot be made or written."""
    return FederationError(
        f"a place where changes wait cannot be written ({error.strerror or error})",
        where=str(path),
        remedy='make room on that disk, then run again with resume="yes": the last checkpoint is intact',
    )


def _unreadable(path: Path, why: str) -> FederationError:
    return FederationError(
        f"a change that waits in a file cannot be read ({why})",
        where=str(path),
        remedy='leave the folder of a running job alone, then run again with resume="yes": it starts at a checkpoint',
    )
