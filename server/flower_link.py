"""``flwr run`` against a SuperLink, and how the run ended; the SuperLink may be a simulation's or a deployment's."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from socket_core.errors import FederationError
from socket_core.run_config import APP

STOP_SECONDS = 20.0
QUIET = {
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
    # Ray keeps variables off its workers' GPUs in ways that warn; sites choose their device themselves.
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}
"""Nothing phones home, and no run installs torch again."""


@dataclass(frozen=True)
class FlowerLink:
    """A SuperLink that runs can be given to.

    Attributes:
        connection: What Flower's configuration calls it.
        environment: For commands that talk to it.
    """

    connection: str
    environment: dict[str, str]
    remedy: ClassVar[str] = "mend what the log names and run again: finished rounds are kept"

    def command(self, run_config: dict[str, str], *options: str) -> list[str]:
        """``flwr run`` of this app, which prints the run's log until its end."""
        pairs = " ".join(f"{key}={json.dumps(value)}" for key, value in run_config.items())
        return [*tool("flwr"), "run", str(APP), self.connection, "--stream", "--run-config", pairs, *options]

    def start(self, run_config: dict[str, str], log: Path, *options: str) -> subprocess.Popen[bytes]:
        """Starts :meth:`command` with its output in ``log``; :meth:`finish` says how the run ended."""
        with log.open("wb") as output:
            return subprocess.Popen(
                self.command(run_config, *options),
                env=self.environment,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def finish(self, process: subprocess.Popen[bytes], log: Path) -> None:
        """Waits for a run's end and asks the SuperLink how it ended: ``flwr run`` exits 0 either way.

        Raises:
            FederationError: If the run did not complete; the message ends with the log's last lines.
        """
        process.wait()
        run_id = run_id_in(log)
        status = self.status(run_id) if run_id else "not started"
        if status != "finished:completed":
            tail = "\n".join(log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-12:])
            raise FederationError(
                f"the Flower run ended as {status!r}; its log ends with:\n{tail}",
                where=str(log),
                remedy=self.remedy,
            )

    def status(self, run_id: str) -> str:
        """Status of a run, for example ``finished:completed``."""
        command = [*tool("flwr"), "list", self.connection, "--run-id", run_id, "--format", "json"]
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True, check=False)
        try:
            runs: list[dict[str, Any]] = json.loads(done.stdout)["runs"]
        except (ValueError, KeyError):
            return "unknown"
        return str(runs[0].get("status", "unknown")) if runs else "unknown"


def run_id_in(log: Path) -> str:
    """The run's id in what ``flwr run`` printed; empty if it is not there (yet)."""
    found = re.search(r"[Rr]un (\d{6,})|run[- ]id[ :=]+(\d{6,})", log.read_text(encoding="utf-8", errors="replace"))
    return next(g for g in found.groups() if g) if found else ""


def stop_group(process: subprocess.Popen[bytes]) -> None:
    """Ends a process that leads its own group, and all that it started there."""
    for sign in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, sign)
        except ProcessLookupError:
            break
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            continue
    process.wait()


def tool(name: str) -> list[str]:
    """A command of this environment, whether or not it is activated."""
    return [str(Path(sys.executable).parent / name)]
