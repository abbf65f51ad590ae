"""One process kept running: started, watched, started again after a growing pause, ended with all it started.

A state machine without threads or sleeping of its own: :meth:`Supervisor.tick` does what is due now.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from deploy import processes

State = Literal["starting", "up", "waiting", "stopped"]


LOOK_SECONDS = 5.0
"""Between two looks at whether a living process can still work."""


class Output(Protocol):
    """Takes a process's output and knows its last lines."""

    def attach(self, process: subprocess.Popen[bytes]) -> None:
        """Reads from a process until it ends."""

    def finish(self) -> None:
        """Waits until all of the last process's output is read."""


@dataclass(frozen=True)
class Backoff:
    """Pauses before a restart, in seconds: ``first``, then twice the last, up to ``longest``.

    A process that was up for ``steady`` seconds has recovered: the next pause is ``first`` again.
    """

    first: float = 1.0
    longest: float = 60.0
    steady: float = 60.0

    def pause(self, failures: int) -> float:
        """Before the restart after that many failures in a row, 1 or more."""
        return min(self.longest, self.first * 2.0 ** min(failures - 1, 32))


@dataclass(frozen=True)
class Service:
    """What to keep running.

    Attributes:
        name: In messages.
        command: Arguments, the program first.
        environment: All variables.
        folder: Working directory.
        ready: Whether it does its work, once started.
        diagnose: From its exit status, what was wrong, in a sentence.
        maimed: From the id of its living process, why it can do no work any more, in a sentence; else empty.
    """

    name: str
    command: list[str]
    environment: Mapping[str, str]
    folder: Path
    ready: Callable[[], bool]
    diagnose: Callable[[int], str]
    maimed: Callable[[int], str] = lambda _pid: ""


class Supervisor:
    """Keeps a service running.

    Args:
        service: What.
        output: Where its output goes.
        backoff: Pauses between restarts.
        clock: Seconds that only grow.
        sweep: Called between an end and the next start, to end what the process left behind.
    """

    def __init__(
        self,
        service: Service,
        output: Output,
        *,
        backoff: Backoff = Backoff(),
        clock: Callable[[], float] = time.monotonic,
        sweep: Callable[[], object] = lambda: None,
    ) -> None:
        self.service, self.output, self.backoff = service, output, backoff
        self._clock, self._sweep = clock, sweep
        self._process: subprocess.Popen[bytes] | None = None
        self._failures = 0
        self._due = self._looked = clock()
        self._since = clock()
        self.state: State = "waiting"
        self.restarts = 0
        self.trouble = ""

    @property
    def pid(self) -> int | None:
        """Of the running process."""
        return self._process.pid if self._process is not None else None

    @property
    def uptime(self) -> float:
        """Seconds since the running process was started; 0 if none is."""
        return self._clock() - self._since if self._process is not None else 0.0

    @property
    def pause(self) -> float:
        """Seconds until the next start; 0 if it is running."""
        return max(0.0, self._due - self._clock()) if self.state == "waiting" else 0.0

    def tick(self) -> None:
        """Starts, looks after or buries the process, whichever is due."""
        if self.state == "stopped":
            return
        if self._process is None:
            if self._clock() >= self._due:
                self._start()
            return
        status = self._process.poll()
        if status is not None:
            self._bury(status)
        elif self.state == "starting" and self.service.ready():
            self.state, self.trouble = "up", ""
        elif self.state == "up":
            if self.uptime >= self.backoff.steady:
                self._failures = 0
            if self._clock() - self._looked >= LOOK_SECONDS:
                self._look(self._process.pid)

    def stop(self) -> None:
        """Ends the process and all that it started."""
        if self._process is not None:
            processes.stop(self._process)
            self._process = None
            self.output.finish()
        self._sweep()
        self.state = "stopped"

    def _start(self) -> None:
        self._since = self._clock()
        try:
            self._process = processes.spawn(
                self.service.command, environment=self.service.environment, folder=self.service.folder
            )
        except OSError as error:
            self._fail(f"{self.service.command[0]} cannot be started ({error.strerror})")
            return
        self.output.attach(self._process)
        self.state = "starting"

    def _look(self, pid: int) -> None:
        self._looked = self._clock()
        if why := self.service.maimed(pid):
            self._clear()
            self._fail(why)

    def _bury(self, status: int) -> None:
        self._clear()  # its leader has ended, the rest of the group may not have
        self._fail(self.service.diagnose(status))

    def _clear(self) -> None:
        process, self._process = self._process, None
        assert process is not None
        processes.stop(process)
        self._sweep()
        self.output.finish()

    def _fail(self, trouble: str) -> None:
        self._failures += 1
        self.restarts += 1
        self.trouble = trouble
        self.state = "waiting"
        self._due = self._clock() + self.backoff.pause(self._failures)
