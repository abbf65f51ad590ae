"""``socket-site serve``: the SuperNode of one site."""

from __future__ import annotations

import re
import stat
from collections.abc import Callable
from functools import partial
from pathlib import Path

from client.connection import Connection
from client.site_file import SiteFile, read_site_file
from deploy import commands
from deploy.diagnosis import diagnose
from deploy.logs import PROGRAM, ProcessLog, Redactor
from deploy.pki import check_validity
from deploy.probe import Probing, reach
from deploy.serve import check_port, only_one, say, serve
from deploy.supervisor import Service, Supervisor
from socket_core.errors import ConfigError, DeploymentError
from socket_core.keys import load_public_key

CONNECTED = re.compile(r"SuperNode ID: \d+")


def serve_site(path: Path, *, every: float = 300.0, tell: Callable[[str], None] = say) -> None:
    """Serves a site until asked to end.

    Args:
        path: Its ``site.yaml``.
        every: Seconds between health lines when nothing changes.
        tell: Takes lines.

    Raises:
        ConfigError: If ``site.yaml`` is wrong or says nothing about the connection.
        DeploymentError: If it is served already, a key or certificate cannot be used, or a port is taken.
        ReleaseError: If the owner's key cannot be used.
    """
    path = path.expanduser().resolve()
    file = read_site_file(path)
    connection = connection_of(file, path)
    file.home.mkdir(mode=0o700, parents=True, exist_ok=True)
    with only_one(file.home / "lock", "socket-site serve"):
        for warning in preflight(file, connection):
            tell(f"site {file.name}: {warning}")
        flower_home = file.home / "flower"
        flower_home.mkdir(mode=0o700, exist_ok=True)
        probing = Probing(partial(reach, connection.superlink, connection.ca))
        line = SiteLine(connection.superlink, probing)
        log = ProcessLog(file.home / "log" / "supernode.log", redactor(file, connection), line.read)
        service = Service(
            name=f"site {file.name}",
            command=commands.supernode(path, connection),
            environment=commands.environment(flower_home),
            folder=flower_home,
            ready=line.connected,
            diagnose=lambda status: diagnose("the SuperNode", status, log.tail),
            maimed=commands.executor_lost,
        )
        tell(f"site {file.name}: connecting to {connection.superlink}; logs in {log.folder}")
        probing.start()
        try:
            serve(service, log, more=line.text, beside=line.follow, every=every, tell=tell)
        finally:
            probing.end()


def connection_of(file: SiteFile, path: Path) -> Connection:
    """The ``connection`` section.

    Raises:
        ConfigError: If there is none.
    """
    if file.connection is None:
        raise ConfigError(
            "no section 'connection'",
            where=str(path),
            remedy="take it from the start kit that the owner made with socket-owner init-deployment",
        )
    return file.connection


def preflight(file: SiteFile, connection: Connection) -> list[str]:
    """Looks at all that the SuperNode will need; what can wait until a run comes is a warning.

    Raises:
        DeploymentError: If a key or certificate cannot be used, or the port is taken.
        ReleaseError: If the owner's key cannot be used.
    """
    load_public_key(file.owner_key)
    check_node_key(connection.node_key)
    try:
        days = check_validity(connection.ca.read_bytes(), where=str(connection.ca))
    except OSError as error:
        raise DeploymentError(
            f"cannot be read ({error.strerror})", where=str(connection.ca), remedy="unpack the start kit again"
        ) from None
    check_port("127.0.0.1", connection.runtime_port, "connection.runtime_port")
    # By key, not by path: this line is logged.
    missing = [key for key in ("tr", "ti_rgb", "ti_target") if not getattr(file, key).is_dir()]
    warnings = [f"{', '.join(missing)}: no such folder yet; rounds are declined until it is there"] if missing else []
    return warnings + ([f"ca.crt ends in {days} days: ask the owner"] if days < 30 else [])


def check_node_key(path: Path) -> None:
    """Refuses a node key that is missing or open to others.

    Raises:
        DeploymentError: With what to type.
    """
    try:
        mode = path.stat().st_mode
    except OSError as error:
        raise DeploymentError(
            f"the node key cannot be read ({error.strerror})", where=str(path), remedy="unpack the start kit again"
        ) from None
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise DeploymentError(
            f"group or others can access this private key (mode {stat.S_IMODE(mode):04o})",
            where=str(path),
            remedy=f"chmod 600 {path}; ask the owner for a new kit if anyone else could have read it",
        )


def redactor(file: SiteFile, connection: Connection) -> Redactor:
    """What the site's log does not show: where its images and keys lie, and what they are called."""
    named = {"tr": file.tr, "ti_rgb": file.ti_rgb, "ti_target": file.ti_target, "node_key": connection.node_key}
    return Redactor(named, [file.home / "flower", *PROGRAM])


class SiteLine:
    """What a site knows of its connection: what the SuperNode says, and what a probe finds.

    Args:
        superlink: Host and port of the owner's Fleet API.
        probing: The probe.
    """

    def __init__(self, superlink: str, probing: Probing) -> None:
        self._superlink, self._probing = superlink, probing
        self._connected = False

    def read(self, line: str) -> None:
        """Takes a line of the SuperNode's output."""
        self._connected = self._connected or CONNECTED.search(line) is not None

    def connected(self) -> bool:
        """Whether the SuperLink let this node in."""
        return self._connected

    def text(self) -> str:
        """For the health line."""
        return self._probing.trouble or f"{'connected' if self._connected else 'connecting'} to {self._superlink}"

    def follow(self, supervisor: Supervisor) -> None:
        """Forgets what an earlier process said."""
        if supervisor.state == "waiting":
            self._connected = False
