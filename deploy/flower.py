"""Questions to a served SuperLink, through Flower's own command line: its Python interface is not public."""

from __future__ import annotations

import json
import subprocess
from typing import Any

from deploy import commands
from deploy.layout import Deployment
from socket_core.errors import DeploymentError

SECONDS = 180.0
"""For one command, most of which goes into starting Python; loaded machines take their time."""


def ask(deployment: Deployment, *words: str, extra: tuple[str, ...] = (), check: bool = True) -> dict[str, Any]:
    """What ``flwr WORDS CONNECTION`` answers, as JSON.

    Args:
        deployment: Whose SuperLink.
        words: Command and arguments before the connection.
        extra: Options after it.
        check: Whether a refusal is an error; otherwise ``success`` in the answer tells.

    Raises:
        DeploymentError: If the SuperLink does not answer.
    """
    deployment.write_connection()
    try:
        done = subprocess.run(
            [*commands.flwr(*words), *extra],
            env=commands.environment(deployment.flower_home),
            cwd=deployment.flower_home,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
        found: dict[str, Any] = json.loads(done.stdout)
    except subprocess.TimeoutExpired:
        found = {"success": False, "error-message": f"nothing within {SECONDS:.0f} s"}
    except ValueError:
        found = {"success": False, "error-message": (done.stderr or done.stdout).strip()[-300:]}
    if check and not found.get("success"):
        reason = str(found.get("error-message", "")).strip().splitlines()
        raise DeploymentError(
            f"the SuperLink gives no answer ({reason[-1] if reason else 'no reason given'})",
            where=deployment.control,
            remedy=f"is socket-owner serve {deployment.folder} running? Its log is in {deployment.logs}",
        )
    return found
