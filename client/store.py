"""What a site keeps on its own disk: releases, a job's parameters, and by round its own BatchNorm state and residual.

Deployed, every message is a new process, and a resumed job is a new Flower run: only files survive both.
"""

from __future__ import annotations

import logging
import re
import secrets
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file
from safetensors.torch import load, save
from torch import Tensor

from socket_core.files import put_atomically, write_atomically

log = logging.getLogger("socket_fl.client")

KEEP = 3
"""Rounds kept: the server may resume from the round before its newest checkpoint."""


HELD = "parameters.safetensors"
"""The parameters that the owner sent last, so that the next ones can come as a change to them."""


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

    def save_residual(self, experiment: str, stage: str, round_: int, residual: NDArray[np.float32]) -> None:
        """Keeps what the change of ``round_`` could not carry, and drops what no resume can ask for."""
        folder = self._folder(experiment)
        path = folder / f"residual-{stage}-{round_:05d}.safetensors"
        put_atomically(path, lambda temporary: save_file({"residual": residual}, temporary))
        for old in folder.glob(f"residual-{stage}-*.safetensors"):
            if _round(old) <= round_ - KEEP:
                old.unlink()

    def load_residual(self, experiment: str, stage: str, round_: int) -> NDArray[np.float32] | None:
        """The newest residual up to and with ``round_``, or None; one that cannot be read counts as absent."""
        for path in sorted(self._folder(experiment).glob(f"residual-{stage}-*.safetensors"), reverse=True):
            if _round(path) <= round_:
                found = _flat(path, "residual")
                if found is None:
                    log.warning("%s cannot be read: what it held is lost", path.name)
                return found
        return None

    def save_parameters(self, experiment: str, parameters: NDArray[np.float32], digest: bytes) -> None:
        """Keeps the parameters that a job is at, and those of no other job.

        Not synced, and not kept on a full disk: who reads them checks their sum, and who lacks them is sent all.
        """
        path = self._folder(experiment) / HELD
        temporary = path.with_suffix(f".{secrets.token_hex(6)}.tmp")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            for old in self.home.glob(f"jobs/*/{HELD}"):
                old.unlink(missing_ok=True)
            save_file({"parameters": parameters}, temporary, metadata={"sha256": digest.hex()})
            temporary.replace(path)
        except (SafetensorError, OSError) as error:
            log.warning("the parameters of this round cannot be kept (%s): they will be sent again", error)
            temporary.unlink(missing_ok=True)

    def held_digest(self, experiment: str) -> bytes:
        """sha256 of the parameters kept, as it was when they were; empty if there are none."""
        try:
            with safe_open(self._folder(experiment) / HELD, framework="numpy") as file:
                return bytes.fromhex((file.metadata() or {})["sha256"])
        except (SafetensorError, OSError, KeyError, ValueError):
            return b""

    def load_parameters(self, experiment: str, digest: bytes) -> NDArray[np.float32] | None:
        """The parameters kept, if they are said to be those of ``digest``; whoever uses them checks it."""
        if self.held_digest(experiment) != digest:
            return None
        return _flat(self._folder(experiment) / HELD, "parameters")

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


def _flat(path: Path, key: str) -> NDArray[np.float32] | None:
    """A flat float32 array of a file, or None where there is none."""
    try:
        with safe_open(path, framework="numpy") as file:  # one copy; a reader of bytes makes two
            found: NDArray[np.float32] = file.get_tensor(key)
    except (SafetensorError, OSError, ValueError, TypeError, AttributeError):  # the last two: a type that NumPy lacks
        return None
    return found if found.dtype == np.float32 and found.ndim == 1 else None


def _plain(name: str) -> str:
    # The name comes over the wire: it must not choose where a file is written.
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}", name):
        raise ValueError("experiment name is not a plain word")
    return name


def _round(path: Path) -> int:
    return int(path.stem.rpartition("-")[2])
