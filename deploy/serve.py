"""The supervising loop that ``socket-owner serve`` and ``socket-site serve`` share."""

from __future__ import annotations

import fcntl
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from types import FrameType

from deploy import processes
from deploy.health import Health
from deploy.logs import ProcessLog
from deploy.supervisor import Backoff, Service, Supervisor
from socket_core.errors import DeploymentError

TICK_SECONDS = 0.2


def say(text: str) -> None:
    """Prints a line with the time, at once: systemd and compose read it through a pipe."""
    print(f"{datetime.now().astimezone():%Y-%m-%dT%H:%M:%S%z} {text}", flush=True)


def serve(
    service: Service,
    log: ProcessLog,
    *,
    more: Callable[[], str] = lambda: "",
    beside: Callable[[Supervisor], None] = lambda _: None,
    every: float = 300.0,
    backoff: Backoff = Backoff(),
    tell: Callable[[str], None] = say,
) -> None:
    """Keeps a service running until this process is asked to end; then ends it and all that it started.

    To be called in the main thread of a process of its own: between two starts it ends all children it has.

    Args:
        service: What to run.
        log: Where its output goes.
        more: For the health line.
        beside: Called each time round with the supervisor, for what else is to be done.
        every: Seconds between health lines when nothing changes.
        backoff: Pauses between restarts.
        tell: Takes lines.
    """
    ended = threading.Event()

    def end(_signal: int, _frame: FrameType | None) -> None:
        ended.set()

    before = {sign: signal.signal(sign, end) for sign in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)}
    adopting = processes.adopt_orphans()
    sweep = processes.stop_orphans if adopting else lambda: 0
    supervisor = Supervisor(service, log, backoff=backoff, sweep=sweep)
    health = Health(supervisor, tell, more=more, every=every)
    try:
        while not ended.wait(TICK_SECONDS):
            supervisor.tick()
            beside(supervisor)
            health.tick()
    finally:
        tell(f"{service.name}: stopping")
        supervisor.stop()
        log.close()
        for sign, handler in before.items():
            signal.signal(sign, handler)
        tell(f"{service.name}: stopped")


@contextmanager
def only_one(path: Path, what: str) -> Iterator[None]:
    """Keeps a second one from serving the same folder while the body runs.

    Raises:
        DeploymentError: If one is at it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.seek(0)
            raise DeploymentError(
                f"{what} is running already (process {file.read().strip() or 'unknown'})",
                where=str(path.parent),
                remedy="stop that one first, for example with systemctl stop",
            ) from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


def check_port(host: str, port: int, key: str) -> None:
    """Refuses a port that somebody listens on.

    Raises:
        DeploymentError: If it is taken or cannot be used.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise DeploymentError(
                f"port {port} cannot be used ({error.strerror})", where=key, remedy="free it or give another port"
            ) from None


def listens(host: str, port: int) -> bool:
    """Whether somebody accepts connections there."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.settimeout(1.0)
        return probe.connect_ex((host, port)) == 0
