"""Checks of a site's connection: what ``site.yaml`` says of it, and the way to the owner's server."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_ssh_public_key

from client.connection import Connection
from client.doctor_network import Server, examine_network
from socket_core.checks import Check, Examination, failed, ok
from socket_core.errors import ConfigError
from socket_core.yaml_files import read_mapping


def examine_connection(
    found: Examination, connection: Connection | None, server: str, ca: Path | None, now: datetime
) -> None:
    """Adds where the owner's server is said to be and, where anything says so, all steps of the way there.

    Args:
        found: So far.
        connection: Of ``site.yaml``.
        server: ``HOST:PORT``, in place of ``connection.superlink``.
        ca: In place of ``connection.ca``.
        now: Against which certificates are held.
    """
    address: list[Server] = []
    if not server and connection is None:
        remedy = "take the section from the owner's start kit, or give --server HOST:PORT and --ca"
        found.run(
            "connection",
            lambda: Check("connection", "skipped", "site.yaml does not say where the owner's server is", remedy),
            after=["site file"],
        )
        return

    def read() -> Check:
        address.append(Server.parse(server or (connection.superlink if connection else "")))
        return ok("connection", f"{address[0]}, from {'--server' if server else 'site.yaml'}")

    found.run("connection", read)
    if address:
        examine_network(found, address[0], ca or (connection.ca if connection else None), now)


def check_trusted_apps(path: Path | None) -> Check:
    """Whether the file of keys whose apps alone may run can be read as Flower reads it: Ed25519 keys by their id.

    Raises:
        ConfigError: If it is missing or no mapping.
    """
    name = "trusted apps"
    if path is None:
        return ok(name, "any that the owner's server sends: no connection.trusted_apps")
    keys = read_mapping(path)
    wrong = [str(key) for key, text in keys.items() if not _is_ed25519(text)]
    if wrong or not keys:
        what = f"no Ed25519 key: {', '.join(wrong)}" if wrong else "no key in it, so anything may run"
        remedy = "write a line for each key, its id and its text: fpk_...: ssh-ed25519 AAAA..."
        return failed(name, what, remedy, ConfigError.exit_code)
    return ok(name, f"those that {len(keys)} keys sign")


def _is_ed25519(text: object) -> bool:
    try:
        return isinstance(load_ssh_public_key(str(text).encode()), Ed25519PublicKey)
    except (ValueError, UnsupportedAlgorithm):
        return False
