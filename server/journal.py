"""``rounds.jsonl``: one line of metrics a round, appended when the round is over."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from socket_core.files import write_atomically


class Journal:
    """The metrics file of one job.

    Args:
        path: The file; its folder is made if needed.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._scores: list[dict[str, Any]] | None = None
        path.parent.mkdir(parents=True, exist_ok=True)

    def read(self) -> list[dict[str, Any]]:
        """All whole lines; a last line that a crash cut short is left out."""
        if not self.path.exists():
            return []
        lines = self.path.read_text(encoding="utf-8").split("\n")[:-1]
        return [json.loads(line) for line in lines]

    def scores(self) -> list[dict[str, Any]]:
        """Of each record what chooses a round, ``round`` and ``validation``; the file is read once."""
        if self._scores is None:
            self._scores = [_score(record) for record in self.read()]
        return self._scores

    def rounds(self) -> int:
        """The last round recorded, 0 if none."""
        records = self.read()
        return int(records[-1]["round"]) if records else 0

    def append(self, record: dict[str, Any]) -> None:
        """Adds one line and syncs it."""
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")
            file.flush()
            os.fsync(file.fileno())
        if self._scores is not None:
            self._scores.append(_score(record))

    def truncate(self, rounds: int) -> None:
        """Keeps only the records of rounds up to ``rounds``, which a resumed job will not write again."""
        kept = [json.dumps(r) + "\n" for r in self.read() if r["round"] <= rounds]
        write_atomically(self.path, "".join(kept).encode())
        self._scores = None


def _score(record: dict[str, Any]) -> dict[str, Any]:
    return {key: record[key] for key in ("round", "validation") if key in record}
