"""Processes that lead a group of their own, die with us and leave no orphans, as far as the system can be asked."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

TERM_SECONDS = 15.0
"""Flower ends its open calls within five seconds and needs a moment more under load."""
KILL_SECONDS = 5.0
_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36


def spawn(command: list[str], *, environment: Mapping[str, str], folder: Path) -> subprocess.Popen[bytes]:
    """Starts a process in a group of its own; its output, both streams in one, is to be read from ``stdout``.

    On Linux the kernel kills it when the calling *thread* ends, by whatever means: call this from the main thread.
    """
    return subprocess.Popen(
        command,
        cwd=folder,
        env=dict(environment),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        preexec_fn=_die_with(os.getpid()),
    )


def adopt_orphans() -> bool:
    """Makes this process the parent of all that its children leave behind; False where there is no such thing.

    Flower's SuperLink starts its executor in a session of its own, which no signal to the group reaches.
    """
    return _prctl is not None and _prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0


def stop(process: subprocess.Popen[bytes], *, term: float = TERM_SECONDS, kill: float = KILL_SECONDS) -> None:
    """Ends a process from :func:`spawn` and its group: asked first, killed after ``term`` seconds."""
    for sign, seconds in ((signal.SIGTERM, term), (signal.SIGKILL, kill)):
        if not _signal_group(process.pid, sign):
            break
        if _wait(lambda: process.poll() is not None and _group_is_gone(process.pid), seconds):
            break
    process.wait()


def lost_child(pid: int, name: str) -> bool:
    """Whether a process has children and none of them runs the program ``name``; False where that cannot be seen.

    Who does not wait for its dead children does not notice: they stay as zombies.
    """
    children = [(child, state) for child, state, parent in _table() if parent == pid]
    return bool(children) and not any(state != "Z" and _runs(child, name) for child, state in children)


def _runs(pid: int, name: str) -> bool:
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return False
    return any(Path(os.fsdecode(word)).name == name for word in words[:2])


def stop_orphans(*, term: float = TERM_SECONDS, kill: float = KILL_SECONDS) -> int:
    """Ends all children of this process, and what they leave behind in turn.

    To be used by a process that called :func:`adopt_orphans`.

    Returns:
        How many there were at first.
    """
    first, known = _children(), set[int]()
    for sign, seconds in ((signal.SIGTERM, term), (signal.SIGKILL, kill)):
        end = time.monotonic() + seconds
        told = set[int]()
        # Who was seen once is waited for: while its parent ends, a process may be nobody's child for a moment.
        while (left := _below(_children()) | {pid for pid in known if _lives(pid)}) and time.monotonic() < end:
            for pid in left - told:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, sign)
            told |= left
            known |= left
            time.sleep(0.05)
        if not left:
            break
    return len(first)


def _children() -> set[int]:
    """Living children of this process; dead ones are reaped."""
    found = set[int]()
    for pid, state, parent in _table():
        if parent != os.getpid():
            continue
        if state == "Z":
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)
        else:
            found.add(pid)
    return found


def _below(pids: set[int]) -> set[int]:
    """These processes, their living children, and theirs."""
    table, found = [(pid, parent) for pid, state, parent in _table() if state != "Z"], set(pids)
    while more := {pid for pid, parent in table if parent in found} - found:
        found |= more
    return found


def _lives(pid: int) -> bool:
    return any(found == pid and state != "Z" for found, state, _ in _table())


def _table() -> list[tuple[int, str, int]]:
    """Number, state and parent of each process; empty where that cannot be seen."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            state, parent = (entry / "stat").read_text().rsplit(")", 1)[1].split()[:2]
            found.append((int(entry.name), state, int(parent)))
        except (OSError, ValueError):
            continue
    return found


def _signal_group(group: int, sign: int) -> bool:
    """Whether there was anybody to send it to."""
    try:
        os.killpg(group, sign)
    except (ProcessLookupError, PermissionError):  # macOS says the latter of a group of zombies
        return False
    return True


def _group_is_gone(group: int) -> bool:
    """Whether a group whose leader was waited for has no member left; adopted ones that are dead are reaped."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-group, os.WNOHANG)[0]:
            pass
    return not _signal_group(group, 0)


def _wait(done: Callable[[], bool], seconds: float) -> bool:
    end = time.monotonic() + seconds
    while not done():
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True


def _die_with(parent: int) -> Callable[[], None] | None:
    """What a child does between fork and exec."""
    if (call := _prctl) is None:
        return None

    def ask() -> None:
        call(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:  # who was killed before the line above
            os._exit(1)

    return ask


# Looked up once, before any fork: a child must not import.
_prctl: Callable[..., int] | None = (
    getattr(ctypes.CDLL(None, use_errno=True), "prctl", None) if sys.platform == "linux" else None
)
