"""How a deployed site reaches its owner: the ``connection`` section of ``site.yaml``."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from socket_core.config_section import Section


class Connection(Section):
    """What ``socket-site serve`` starts a SuperNode with; written by the owner into the site's start kit."""

    superlink: str = Field(pattern=r"^\S+:\d{1,5}$", description="host and port of the owner's Fleet API")
    ca: Path = Field(description="certificate of the authority that signed the owner's server certificate")
    node_key: Path = Field(description="private key of this node, OpenSSH, mode 0600")
    runtime_port: int = Field(9094, ge=1, le=65535, description="on this machine only")
    trusted_apps: Path | None = Field(None, description="YAML file of keys; only apps that one of them signed may run")
