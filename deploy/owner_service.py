"""``socket-owner serve``: the SuperLink, its registered sites, and who of them is connected."""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from deploy import commands, nodes
from deploy.diagnosis import diagnose
from deploy.layout import Deployment
from deploy.logs import PROGRAM, ProcessLog, Redactor
from deploy.pki import check_validity
from deploy.serve import check_port, listens, only_one, say, serve
from deploy.supervisor import Service, Supervisor
from socket_core.errors import DeploymentError, SocketError

ASK_EVERY, ASK_SELDOM = 15.0, 60.0
"""Seconds between questions for connected sites, while some are missing and when all are there."""
TICK_SECONDS = 1.0
WARN_DAYS = 30
"""Certificates that last less are spoken of."""


def serve_owner(deployment: Deployment, *, every: float = 300.0, tell: Callable[[str], None] = say) -> None:
    """Serves a deployment until asked to end.

    Raises:
        DeploymentError: If it is served already, a certificate has ended, or a port is taken.
    """
    file = deployment.file
    with only_one(deployment.folder / "state" / "lock", "socket-owner serve"):
        for path in (deployment.ca, deployment.server_certificate):
            days = check_validity(read_kept(path), where=str(path))
            if days < WARN_DAYS:
                tell(f"{path.name} ends in {days} days: socket-owner renew-certificate {deployment.folder}")
        check_port(file.bind, file.port, "port")
        check_port("127.0.0.1", file.control_port, "control_port")
        deployment.write_connection()
        redact = Redactor({}, [deployment.folder, deployment.home, *PROGRAM])
        log = ProcessLog(deployment.logs / "superlink.log", redact)
        watch = NodeWatch(deployment)
        service = Service(
            name="superlink",
            command=commands.superlink(deployment),
            environment=commands.owner_environment(deployment.flower_home),
            folder=deployment.flower_home,
            ready=partial(answers, deployment),
            diagnose=lambda status: diagnose("the SuperLink", status, log.tail),
            maimed=commands.executor_lost,
        )
        tell(f"owner {file.name}: sites connect to {deployment.fleet}; logs in {deployment.logs}")
        try:
            watch.start()
            serve(service, log, more=watch.text, beside=watch.follow, every=every, tell=tell)
        finally:
            watch.end()


class NodeWatch(threading.Thread):
    """Registers the sites once the SuperLink is up, then asks now and then who is connected.

    A thread, since Flower's commands take seconds and the supervisor must not wait for them.

    Args:
        deployment: Whose sites.
    """

    def __init__(self, deployment: Deployment) -> None:
        super().__init__(daemon=True, name="nodes")
        self._deployment = deployment
        self._pid: int | None = None
        self._nodes: nodes.Nodes | None = None
        self._trouble = ""
        self._ended = threading.Event()

    def text(self) -> str:
        """For the health line."""
        known = self._nodes
        return ", ".join(part for part in (str(known) if known is not None else "", self._trouble) if part)

    def follow(self, supervisor: Supervisor) -> None:
        """Takes note of whether the SuperLink is up, and which process it is."""
        self._pid = supervisor.pid if supervisor.state == "up" else None

    def end(self) -> None:
        """Asks no more."""
        self._ended.set()

    def run(self) -> None:
        """Until :meth:`end`."""
        registered_for, due = 0, 0.0
        while not self._ended.wait(TICK_SECONDS):
            pid = self._pid
            if pid is None:
                self._nodes = None
                continue
            try:
                if pid != registered_for:
                    nodes.register(self._deployment)
                    registered_for, due = pid, 0.0
                if time.monotonic() >= due:
                    self._nodes = nodes.connected(self._deployment)
                    due = time.monotonic() + (ASK_EVERY if self._nodes.missing else ASK_SELDOM)
                self._trouble = ""
            except (SocketError, OSError, subprocess.TimeoutExpired) as error:
                self._nodes = None
                what = error.what if isinstance(error, SocketError) else str(error)
                self._trouble = f"sites cannot be asked for: {what}" if self._pid == pid else ""
                self._ended.wait(ASK_EVERY)


def answers(deployment: Deployment) -> bool:
    """Whether both ports are listened on."""
    return listens("127.0.0.1", deployment.file.control_port) and listens(here(deployment), deployment.file.port)


def here(deployment: Deployment) -> str:
    """Address of the Fleet API as this machine itself reaches it."""
    bind = deployment.file.bind
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(bind, bind)


def read_kept(path: Path) -> bytes:
    """A file of the deployment.

    Raises:
        DeploymentError: If it cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise DeploymentError(
            f"cannot be read ({error.strerror})", where=str(path), remedy="restore the deployment folder from a copy"
        ) from None
