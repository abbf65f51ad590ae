"""systemd units: started with the machine, started again whatever happens, as a user with few rights."""

from __future__ import annotations

from pathlib import Path

from client.site_file import read_site_file
from deploy.kit import fill
from deploy.layout import open_deployment
from server.flower_link import tool
from socket_core.errors import DeploymentError


def owner_unit(folder: Path, user: str = "") -> str:
    """The unit of ``socket-owner serve``.

    Args:
        folder: Of the deployment.
        user: System user; default: the folder's owner.

    Raises:
        DeploymentError: If there is no deployment, or a path cannot stand in a unit.
    """
    deployment = open_deployment(folder)
    return _fill(
        "socket-owner.service",
        user=user or deployment.folder.owner(),
        command=[*tool("socket-owner"), "serve", str(deployment.folder)],
    )


def site_unit(path: Path, user: str = "") -> str:
    """The unit of ``socket-site serve``; arguments and errors as for :func:`owner_unit`.

    Raises:
        ConfigError: If ``site.yaml`` is wrong.
    """
    path = path.expanduser().resolve()
    read_site_file(path)  # a unit for a wrong file would fail at each start
    return _fill(
        "socket-site.service",
        user=user or path.owner(),
        command=[*tool("socket-site"), "serve", str(path)],
    )


def _fill(name: str, *, user: str, command: list[str]) -> str:
    folder = Path(command[-1])
    values = {
        "user": user,
        "command": " ".join(_quoted(word) for word in command),
        "folder": str(folder if folder.is_dir() else folder.parent),
    }
    return fill(name, values).decode()


def _quoted(word: str) -> str:
    """A word of a unit file; systemd would expand ``%`` and ``$``."""
    if set(word) & set("\"'\\%$\n"):
        raise DeploymentError(
            f"{word!r} holds a character that means something else in a unit file",
            where="unit",
            remedy="move the folder to a path without quotes, backslash, percent or dollar sign",
        )
    return f'"{word}"' if " " in word else word
