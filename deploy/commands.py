"""The argument lists and the environment that Flower's processes are started with: what faces whom is decided here.

Only the Fleet API listens beyond this machine, with TLS and node authentication. Control and Runtime API stay on
loopback. ``--insecure`` occurs nowhere: Flower itself uses it between a SuperNode and its own child, on loopback.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from client.connection import Connection
from deploy.layout import CONNECTION, Deployment, address
from deploy.processes import lost_child
from server.flower_link import QUIET, tool
from socket_core.errors import DeploymentError


def superlink(deployment: Deployment) -> list[str]:
    """Command of the owner's SuperLink."""
    file = deployment.file
    return [
        *tool("flower-superlink"),
        *("--ssl-ca-certfile", str(deployment.ca)),
        *("--ssl-certfile", str(deployment.server_certificate)),
        *("--ssl-keyfile", str(deployment.server_key)),
        "--enable-supernode-auth",
        "--disable-runtime-dependency-installation",
        *("--fleet-api-address", address(file.bind, file.port)),
        *("--host", "127.0.0.1", "--port", str(file.control_port)),
        *("--database", str(deployment.database)),
    ]


def supernode(site_file: Path, connection: Connection) -> list[str]:
    """Command of a site's SuperNode.

    Args:
        site_file: Absolute path of ``site.yaml``.
        connection: Its ``connection`` section, with absolute paths.

    Raises:
        DeploymentError: If the path cannot be written in Flower's node configuration.
    """
    if set('"\\\n') & set(str(site_file)):
        raise DeploymentError(
            "a quote, a backslash or a line break in its path",
            where=str(site_file),
            remedy="move the kit to another folder",
        )
    command = [
        *tool("flower-supernode"),
        *("--root-certificates", str(connection.ca)),
        *("--superlink", connection.superlink),
        *("--auth-supernode-private-key", str(connection.node_key)),
        *("--host", "127.0.0.1", "--port", str(connection.runtime_port)),
        *("--node-config", f'site-config="{site_file}"'),
    ]
    if connection.trusted_apps is not None:
        command += ["--trusted-entities", str(connection.trusted_apps)]
    return command


def executor_lost(pid: int) -> str:
    """Why a SuperLink or SuperNode does no more work, though it runs and stays connected; empty if it does.

    Flower starts apps through an executor of its own, does not look after it, and has only zombies of it left.
    """
    return "Flower's executor was ended: nothing more could run" if lost_child(pid, "flower-superexec") else ""


OWNER_MEMORY = {"MALLOC_MMAP_THRESHOLD_": str(1 << 20)}
"""glibc gives large blocks back to the system when they are freed only if it maps each, which it ceases to do for sizes
that come again, such as Flower's 5 MB chunks: a round of ResNet-50 in float32 peaked at 3.8 payloads instead of 3.0
then, and 0.7 stayed. Not for sites: a training step would map its activations anew each time. Other C libraries ignore
it."""


def flwr(*words: str) -> list[str]:
    """A command of Flower's command line about the deployment's SuperLink, which answers in JSON."""
    return [*tool("flwr"), *words, CONNECTION, "--format", "json"]


def environment(flower_home: Path) -> dict[str, str]:
    """Variables for Flower's processes: an own home, no telemetry, this environment's commands first.

    Python's output is not buffered, so that a line is in the log when it happened.
    """
    scripts = str(Path(sys.executable).parent)
    path = f"{scripts}{os.pathsep}{os.environ.get('PATH', '')}"
    return {**os.environ, **QUIET, "FLWR_HOME": str(flower_home), "PATH": path, "PYTHONUNBUFFERED": "1"}


def owner_environment(flower_home: Path) -> dict[str, str]:
    """As :func:`environment`, for the SuperLink and the ServerApp that it starts: see :data:`OWNER_MEMORY`."""
    return OWNER_MEMORY | environment(flower_home)
