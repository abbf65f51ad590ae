"""What lies where in an owner's deployment folder."""

from __future__ import annotations

import ipaddress
import json
import re
from dataclasses import dataclass
from pathlib import Path

import yaml
from pydantic import Field, ValidationError

from socket_core.config_section import NAME, Section
from socket_core.errors import DeploymentError
from socket_core.files import write_atomically
from socket_core.yaml_files import explain, read_mapping

FILE = "deployment.yaml"
CONNECTION = "socket"
"""What Flower's own commands call the SuperLink of a deployment."""


class DeploymentFile(Section):
    """``deployment.yaml``, written by ``init-deployment``."""

    name: str = Field(pattern=NAME, description="of the deployment, in certificates and services")
    host: str = Field(description="name or address under which sites reach the SuperLink")
    port: int = Field(9092, ge=1, le=65535, description="of the Fleet API (gRPC), the only one that sites need")
    bind: str = Field("0.0.0.0", description="address that the Fleet API listens on")
    control_port: int = Field(9093, ge=1, le=65535, description="of Control and Runtime API, on loopback only")
    sites: tuple[str, ...] = Field(description="whose node keys are registered")
    home: Path = Field(Path("runs"), description="keys, releases and runs; relative: below the deployment")


@dataclass(frozen=True)
class Deployment:
    """An owner's deployment folder.

    Attributes:
        folder: Absolute.
        file: What ``deployment.yaml`` says.
    """

    folder: Path
    file: DeploymentFile

    @property
    def home(self) -> Path:
        """Keys, releases and runs."""
        return self.folder / self.file.home

    @property
    def ca(self) -> Path:
        """The authority's certificate, which each site gets."""
        return self.folder / "ca.crt"

    @property
    def ca_key(self) -> Path:
        """The authority's private key: whoever has it can pose as the owner's SuperLink."""
        return self.folder / "private" / "ca.key"

    @property
    def server_certificate(self) -> Path:
        """Of the SuperLink."""
        return self.folder / "server" / "server.crt"

    @property
    def server_key(self) -> Path:
        """Private key of :attr:`server_certificate`."""
        return self.folder / "server" / "server.key"

    @property
    def kits(self) -> Path:
        """Start kits, a folder and an archive for each site."""
        return self.folder / "kits"

    @property
    def flower_home(self) -> Path:
        """Flower's own folder: connections, apps."""
        return self.folder / "flower"

    @property
    def database(self) -> Path:
        """The SuperLink's: registered nodes and runs survive a restart in it."""
        return self.folder / "state" / "superlink.db"

    @property
    def registered(self) -> Path:
        """Node id of each site, as the SuperLink gave them."""
        return self.folder / "state" / "nodes.json"

    @property
    def logs(self) -> Path:
        """Log files of the supervised process."""
        return self.folder / "log"

    @property
    def control(self) -> str:
        """Address of Control and Runtime API."""
        return f"127.0.0.1:{self.file.control_port}"

    @property
    def fleet(self) -> str:
        """Address that sites connect to."""
        return address(self.file.host, self.file.port)

    def node_key(self, site: str) -> Path:
        """Public key of a site's node."""
        return self.folder / "nodes" / f"{site}.pub"

    def write_connection(self) -> None:
        """Writes Flower's connection file; again each time, so that the folder may be moved."""
        lines = [
            "[superlink]",
            f"default = {json.dumps(CONNECTION)}",
            "",
            f"[superlink.{CONNECTION}]",
            f"address = {json.dumps(self.control)}",
            f"root-certificates = {json.dumps(str(self.ca))}",
        ]
        write_atomically(self.flower_home / "config.toml", ("\n".join(lines) + "\n").encode())


def open_deployment(folder: Path) -> Deployment:
    """The deployment in ``folder``.

    Raises:
        DeploymentError: If it holds none.
        ConfigError: If its ``deployment.yaml`` is wrong.
    """
    folder = folder.expanduser().resolve()
    path = folder / FILE
    if not path.is_file():
        raise DeploymentError(
            f"no {FILE} here",
            where=str(folder),
            remedy="give the folder that socket-owner init-deployment wrote",
        )
    try:
        file = DeploymentFile.model_validate(read_mapping(path), strict=False)
    except ValidationError as error:
        raise explain(error, DeploymentFile, where=str(path), see="docs/deploy.md") from None
    return Deployment(folder, file)


def write_file(deployment: Deployment) -> None:
    """Writes ``deployment.yaml``."""
    text = yaml.safe_dump(deployment.file.model_dump(mode="json"), sort_keys=False)
    write_atomically(deployment.folder / FILE, text.encode())


def address(host: str, port: int) -> str:
    """``host:port``, with brackets about an IPv6 address."""
    try:
        return f"[{host}]:{port}" if ipaddress.ip_address(host).version == 6 else f"{host}:{port}"
    except ValueError:
        return f"{host}:{port}"


def check_host(host: str) -> None:
    """Refuses what no site could connect to.

    Raises:
        DeploymentError: If ``host`` is neither a name nor an address of one machine.
    """
    try:
        named = ipaddress.ip_address(host)
        good = not (named.is_unspecified or named.is_multicast)
    except ValueError:
        label = r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
        good = len(host) <= 253 and re.fullmatch(rf"{label}(\.{label})*", host) is not None
    if not good:
        raise DeploymentError(
            f"expected a host's name or address, found {host!r}",
            where="--host",
            remedy="give what sites can connect to, without a port, for example owner.example.org or 192.0.2.7",
        )
