"""What a site keeps on its own disk: checked releases, and its own BatchNorm state of each job and round.

Deployed, every message is a new process, and a resumed job is a new Flower run: only files survive both.
"""

from __future__ import annotations

import logging
import re
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from socket_core.files import write_atomically

log = logging.getLogger("socket_fl.client")

KEEP = 3
"""Rounds kept: the server may resume from the round before its newest checkpoint."""


class SiteStore:
    """One site's folder.

    Args:
        home: The folder; made when something is written.
    """

    def __init__(self, home: Path) -> None:
        self.home = home

    @property
    def releases(self) -> Path:
        """Releases by digest."""
        return self.home / "releases"

    def save_batchnorm(self, experiment: str, round_: int, state: dict[str, Tensor], best: int = 0) -> None:
        """Keeps the state after ``round_`` and drops what no resume can ask for, but not that of round ``best``."""
        folder = self._folder(experiment)
        write_atomically(folder / f"round-{round_:05d}.safetensors", save(state))
        for old in sorted(folder.glob("round-*.safetensors")):
            if _round(old) <= round_ - KEEP and _round(old) != best:
                old.unlink()

    def load_batchnorm(self, experiment: str, round_: int) -> dict[str, Tensor] | None:
        """The newest state of this job up to and with ``round_``, or None.

        A file that cannot be read counts as absent: the next older one is taken.
        """
        for path in sorted(self._folder(experiment).glob("round-*.safetensors"), reverse=True):
            if _round(path) <= round_:
                try:
                    return load(path.read_bytes())
                except (SafetensorError, OSError) as error:
                    log.warning("BatchNorm state %s cannot be read (%s), an older one is taken", path.name, error)
        return None

    def kept_rounds(self) -> dict[str, list[int]]:
        """Rounds after which a BatchNorm state is kept, ascending, by job."""
        found: dict[str, list[int]] = {}
        for path in sorted(self.home.glob("jobs/*/round-[0-9]*.safetensors")):
            found.setdefault(path.parent.name, []).append(_round(path))
        return found

    def save_bridge(self, experiment: str, state: dict[str, Tensor]) -> None:
        """Keeps the site's own translator for this job."""
        # Training keeps convolutions channels last, which safetensors does not write.
        packed = {key: value.contiguous() for key, value in state.items()}
        write_atomically(self._folder(experiment) / "translator.safetensors", save(packed))

    def load_bridge(self, experiment: str) -> dict[str, Tensor] | None:
        """The site's own translator for this job, or None; one that cannot be read counts as absent."""
        path = self._folder(experiment) / "translator.safetensors"
        try:
            return load(path.read_bytes())
        except FileNotFoundError:
            return None
        except (SafetensorError, OSError) as error:
            log.warning("%s cannot be read (%s), a new translator is trained", path.name, error)
            return None

    def sent_folder(self, experiment: str) -> Path:
        """Where copies of what a job sent lie, at a site that keeps them."""
        return self.home / "sent" / _plain(experiment)

    def _folder(self, experiment: str) -> Path:
        return self.home / "jobs" / _plain(experiment)


def _plain(name: str) -> str:
    # The name comes over the wire: it must not choose where a file is written.
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}", name):
        raise ValueError("experiment name is not a plain word")
    return name


def _round(path: Path) -> int:
    return int(path.stem.removeprefix("round-"))
