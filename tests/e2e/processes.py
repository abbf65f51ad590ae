"""Looking for processes that somebody left running."""

from __future__ import annotations

import os
import time
from pathlib import Path


def processes_of(folder: Path) -> list[str]:
    """Command lines of running processes that name ``folder`` there or in their environment, this one left out.

    Ray's processes are no children of ours and name other folders, but inherit FLWR_HOME.
    """
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            environment = (entry / "environ").read_bytes().decode(errors="replace")
        except OSError:
            continue
        if str(folder) in command + environment and int(entry.name) != os.getpid():
            found.append(command)
    return found


def children_of(pid: int) -> list[int]:
    """Process ids of the children of ``pid``, and of theirs."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1])
        except (OSError, ValueError):
            continue
        if parent == pid:
            found += [int(entry.name), *children_of(int(entry.name))]
    return found


def gone(pids: list[int], seconds: float) -> bool:
    """Whether all these processes end within some seconds; a zombie counts as ended."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if not any(_alive(pid) for pid in pids):
            return True
        time.sleep(0.1)
    return False


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False
