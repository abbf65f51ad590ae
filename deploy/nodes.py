"""Which nodes the SuperLink knows, asked through Flower's own commands."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from deploy.flower import ask
from deploy.layout import Deployment
from socket_core.errors import DeploymentError
from socket_core.files import write_atomically


@dataclass(frozen=True)
class Nodes:
    """State of the sites' nodes.

    Attributes:
        online: Names of sites whose node is connected.
        missing: Names of the others.
    """

    online: tuple[str, ...]
    missing: tuple[str, ...]

    def __str__(self) -> str:
        total = len(self.online) + len(self.missing)
        return f"{len(self.online)} of {total} sites connected" + (
            f" (missing: {', '.join(self.missing)})" if self.missing else ""
        )


def register(deployment: Deployment) -> None:
    """Registers each site's key that the SuperLink does not know; it lets nobody else in.

    Raises:
        DeploymentError: If the SuperLink does not answer, or refuses a key.
    """
    known = _known(deployment)
    listed = _ids(ask(deployment, "supernode", "list"))
    for site in deployment.file.sites:
        if known.get(site) in listed:
            continue
        found = ask(
            deployment, "supernode", "register", str(deployment.node_key(site)), extra=("--name", site), check=False
        )
        if found.get("success"):
            known[site] = str(found["node-id"])
        elif "in use" not in str(found):  # registered already, and the note of its id was lost
            raise DeploymentError(
                f"the key of site {site!r} was refused: {found.get('error-message', 'no reason given')}",
                where=str(deployment.node_key(site)),
                remedy="put the public key of the site's kit there",
            )
    write_atomically(deployment.registered, json.dumps(known, indent=1).encode())


def connected(deployment: Deployment) -> Nodes:
    """Which sites are connected.

    Raises:
        DeploymentError: If the SuperLink does not answer.
    """
    found = states(deployment)
    there = tuple(site for site, state in found.items() if state == "online")
    return Nodes(there, tuple(site for site in found if site not in there))


def states(deployment: Deployment) -> dict[str, str]:
    """Flower's word for each site's node: ``registered`` (never seen), ``online``, ``offline``; "" where not known.

    Raises:
        DeploymentError: If the SuperLink does not answer.
    """
    known, listed = _known(deployment), ask(deployment, "supernode", "list")
    words = {str(n.get("node-id")): str(n.get("status")) for n in listed.get("nodes", []) if _counts(n)}
    return {site: words.get(known.get(site, ""), "") for site in deployment.file.sites}


def _known(deployment: Deployment) -> dict[str, str]:
    try:
        known: dict[str, str] = json.loads(deployment.registered.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return known


def _ids(listed: Mapping[str, Any]) -> set[str]:
    return {str(n.get("node-id")) for n in listed.get("nodes", []) if _counts(n)}


def _counts(node: Mapping[str, Any]) -> bool:
    return node.get("status") not in ("unregistered", "deleted")
