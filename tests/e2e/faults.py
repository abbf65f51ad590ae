"""What befalls a deployed federation: processes that die or stop, a disk that is full, a clock that is wrong."""

from __future__ import annotations

import json
import os
import resource
import signal
import sqlite3
import subprocess
from collections.abc import Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

from tests.e2e.plants import Plants
from tests.e2e.processes import children_of

DISK_BYTES = 64 * 2**20


def superlink(plants: Plants) -> int:
    """Process id of the owner's SuperLink."""
    return _only("flower-superlink", str(plants.owner.database))


def supernode(plants: Plants, site: str) -> int:
    """Process id of a site's SuperNode."""
    return _only("flower-supernode", str(plants.site_file(site)))


def clientapps(plants: Plants, site: str) -> list[int]:
    """Process ids of a site's ClientApps: each is at work on one message."""
    return [pid for pid in children_of(supernode(plants, site)) if runs(pid, "flwr-clientapp")]


def executor(plants: Plants, site: str) -> int:
    """Process id of what starts a site's ClientApps."""
    [found] = [pid for pid in children_of(supernode(plants, site)) if runs(pid, "flower-superexec")]
    return found


def all_of(plants: Plants, site: str) -> list[int]:
    """Process ids of a site's SuperNode and all that it started."""
    leader = supernode(plants, site)
    return [leader, *children_of(leader)]


def send(sign: signal.Signals, pids: Sequence[int]) -> None:
    """Sends a signal to each process."""
    for pid in pids:
        os.kill(pid, sign)


def rounds_charged(plants: Plants, site: str) -> list[int]:
    """The round of each charge in a site's ledger, in order; read beside the site, without its lock."""
    entries = _entries(plants.home(site) / "ledger.sqlite")
    return [int(entry["about"]["round"]) for entry in entries if entry["kind"] == "charge"]


def rounds_sent(plants: Plants, site: str) -> list[int]:
    """The round of each update in a site's journal of what left, in order; read likewise."""
    entries = _entries(plants.home(site) / "egress.sqlite")
    return [int(entry["round"]) for entry in entries if entry["kind"] == "Update"]


class Disk:
    """What a site keeps, on a disk that can be filled: a small one of its own where this user may mount one.

    Elsewhere the site's processes may write no file beyond a few bytes (RLIMIT_FSIZE), which fails in another place
    of the same calls.

    Attributes:
        mounted: Whether it is a disk of its own.
    """

    def __init__(self, plants: Plants, site: str) -> None:
        self._plants, self._site, self._home = plants, site, plants.home(site)
        self._home.mkdir(mode=0o700)
        command = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES},mode=0700", "tmpfs", str(self._home)]
        self.mounted = os.geteuid() == 0 and subprocess.run(command, capture_output=True, check=False).returncode == 0

    def fill(self) -> None:
        """From now on nothing can be written."""
        if not self.mounted:
            self._limit(16)
            return
        with (self._home / "filler").open("wb", buffering=0) as file:
            for size in (2**20, 4096, 1):
                with suppress(OSError):
                    while file.write(b"\0" * size):
                        pass

    def mend(self) -> None:
        """There is room again."""
        if self.mounted:
            (self._home / "filler").unlink()
        else:
            self._limit(resource.RLIM_INFINITY)

    def unmount(self) -> None:
        """To be called when nobody uses it any more; its content is kept beside for the tests."""
        if self.mounted:
            kept = self._home.with_name("kept")
            subprocess.run(["cp", "-a", str(self._home), str(kept)], check=True)
            subprocess.run(["umount", str(self._home)], check=True)
            self._home.rmdir()
            kept.rename(self._home)
            self.mounted = False

    def _limit(self, size: int) -> None:
        for pid in all_of(self._plants, self._site):
            hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)[1]
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (size, hard))


CLOCK = '''"""Puts datetime.now wrong by $WRONG_BY seconds."""
import datetime, os
_by = datetime.timedelta(seconds=float(os.environ["WRONG_BY"]))
class _Wrong(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return super().now(tz) + _by
datetime.datetime = _Wrong
'''


def wrong_clock(folder: Path, seconds: float) -> dict[str, str]:
    """Environment in which Python programs have a calendar that is ahead by so many seconds, or behind.

    Flower's timestamps, ledger and journal go by it. TLS and deadlines inside gRPC read the machine's own clock, which
    must not move alone: gRPC takes its deadlines from ``time.time``, hence that is left right.
    """
    folder.mkdir(exist_ok=True)
    (folder / "sitecustomize.py").write_text(CLOCK)
    return {"PYTHONPATH": str(folder), "WRONG_BY": str(seconds)}


def runs(pid: int, program: str, argument: str = "") -> bool:
    """Whether a process runs one of Flower's programs, with an argument that holds ``argument``."""
    try:
        words = [os.fsdecode(word) for word in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")]
    except OSError:
        return False
    return any(Path(word).name == program for word in words[:2]) and any(argument in word for word in words)


def _only(program: str, argument: str) -> int:
    pids = [int(entry.name) for entry in Path("/proc").glob("[0-9]*")]
    found = [pid for pid in pids if runs(pid, program, argument)]
    assert len(found) == 1, found
    return found[0]


def _entries(path: Path) -> list[dict[str, Any]]:
    if not path.exists():
        return []
    with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, timeout=30)) as database:
        try:
            return [json.loads(row[0]) for row in database.execute("SELECT body FROM entries ORDER BY seq")]
        except sqlite3.OperationalError:  # just being made
            return []
