"""The health line: one line that says how a service does, printed on change and now and then."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from deploy.supervisor import Supervisor


class Health:
    """Prints the health line of a supervised service.

    Args:
        supervisor: Of the service.
        say: Takes a line.
        more: What else is known, for example which sites are connected; empty if nothing.
        every: Seconds between lines when nothing changes.
        clock: Seconds that only grow.
    """

    def __init__(
        self,
        supervisor: Supervisor,
        say: Callable[[str], None],
        *,
        more: Callable[[], str] = lambda: "",
        every: float = 300.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._supervisor, self._say, self._more = supervisor, say, more
        self._every, self._clock = every, clock
        self._shown: tuple[object, ...] = ()
        self._last = 0.0

    def tick(self) -> None:
        """Prints the line if something changed or the time has come."""
        watched, more = self._supervisor, self._more()
        now = (watched.state, watched.pid, watched.restarts, watched.trouble, more)
        if now != self._shown or self._clock() - self._last >= self._every:
            self._shown, self._last = now, self._clock()
            self._say(line(watched, more))


def line(watched: Supervisor, more: str) -> str:
    """One line: state, process id, time since its start, restarts, what else is known, what is wrong."""
    parts = [f"{watched.service.name}: {watched.state}"]
    if watched.pid is not None:
        parts.append(f"pid {watched.pid}")
        parts.append(f"for {duration(watched.uptime)}")
    if watched.state == "waiting":
        parts.append(f"next start in {math.ceil(watched.pause)} s")
    parts.append(f"restarts {watched.restarts}")
    parts += [more] if more else []
    parts += [f"before: {watched.trouble}" if watched.pid is not None else watched.trouble] if watched.trouble else []
    return ", ".join(parts)


def duration(seconds: float) -> str:
    """Days if there are any, hours, minutes and seconds."""
    whole = int(seconds)
    days, rest = divmod(whole, 86400)
    clock = f"{rest // 3600}:{rest // 60 % 60:02d}:{rest % 60:02d}"
    return f"{days} d {clock}" if days else clock
