"""An own simulation SuperLink: started in an empty folder, asked to run the app, stopped at the end.

Flower's automatic local SuperLink stays alive with the folder and environment of its first start, and Ray
puts that folder first on the import path: another checkout would then run this one's code. So ours has its
own FLWR_HOME, its own ports and its own life (docs/adr/0006).
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from socket_core.errors import FederationError
from socket_core.run_config import APP

START_SECONDS = 60.0
STOP_SECONDS = 20.0
LONGEST_RAY_FOLDER = 35
"""Ray adds about 70 characters for its sockets, and a socket's path may have 107."""
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
class SimulationLink:
    """A running simulation SuperLink.

    Attributes:
        address: Of its Control API.
        home: Its FLWR_HOME.
        environment: For commands that talk to it.
    """

    address: str
    home: Path
    environment: dict[str, str]

    def run(self, run_config: dict[str, str], *, sites: int, cpus: int, log: Path) -> subprocess.Popen[bytes]:
        """Starts ``flwr run`` of this app and returns its process; :meth:`finish` says how it ended."""
        pairs = " ".join(f"{key}={json.dumps(value)}" for key, value in run_config.items())
        federation = f"num-supernodes={sites} client-resources-num-cpus=1 init-args-num-cpus={cpus}"
        command = [*_tool("flwr"), "run", str(APP), "sim", "--stream"]
        command += ["--run-config", pairs, "--federation-config", federation]
        with log.open("wb") as output:
            return subprocess.Popen(
                command, env=self.environment, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
            )

    def finish(self, process: subprocess.Popen[bytes], log: Path) -> None:
        """Waits for a run's end and asks the SuperLink how it ended: ``flwr run`` exits 0 either way.

        Raises:
            FederationError: If the run did not complete; the message ends with the log's last lines.
        """
        process.wait()
        text = log.read_text(encoding="utf-8", errors="replace")
        found = re.search(r"[Rr]un (\d{6,})|run[- ]id[ :=]+(\d{6,})", text)
        status = self.status(next(g for g in found.groups() if g)) if found else "not started"
        if status != "finished:completed":
            tail = "\n".join(text.strip().splitlines()[-12:])
            raise FederationError(
                f"the Flower run ended as {status!r}; its log ends with:\n{tail}",
                where=str(log),
                remedy="mend what the log names and run again: finished rounds are kept",
            )

    def status(self, run_id: str) -> str:
        """Status of a run, for example ``finished:completed``."""
        command = [*_tool("flwr"), "list", "sim", "--run-id", run_id, "--format", "json"]
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True, check=False)
        try:
            runs: list[dict[str, Any]] = json.loads(done.stdout)["runs"]
        except (ValueError, KeyError):
            return "unknown"
        return str(runs[0].get("status", "unknown")) if runs else "unknown"


@contextmanager
def simulation_link(folder: Path) -> Iterator[SimulationLink]:
    """A simulation SuperLink for the length of the body.

    Args:
        folder: Gets ``flwr/`` (its home) and ``superlink.log``.

    Raises:
        FederationError: If it does not come up.
    """
    home, empty = folder / "flwr", folder / "flwr" / "cwd"
    empty.mkdir(parents=True, exist_ok=True)
    port = _free_port()
    (home / "config.toml").write_text(
        f'[superlink]\ndefault = "sim"\n\n[superlink.sim]\naddress = "127.0.0.1:{port}"\ninsecure = true\n'
    )
    scripts = str(Path(sys.executable).parent)
    environment = {**os.environ, **QUIET, "FLWR_HOME": str(home), "OMP_NUM_THREADS": "1"}
    environment["RAY_TMPDIR"] = str(ray := _ray_folder(folder))
    environment["PATH"] = f"{scripts}{os.pathsep}{environment.get('PATH', '')}"
    log = folder / "superlink.log"
    command = [*_tool("flower-superlink"), "--insecure", "--simulation", "--host", "127.0.0.1", "--port", str(port)]
    command.append("--disable-runtime-dependency-installation")
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, cwd=empty, env=environment, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
    try:
        _wait_until_up(process, port, log)
        yield SimulationLink(f"127.0.0.1:{port}", home, environment)
    finally:
        stop_group(process)
        shutil.rmtree(ray, ignore_errors=True)


def _ray_folder(folder: Path) -> Path:
    """Where Ray keeps its session: in the run's folder, unless that is too long for the name of a socket."""
    inside = folder / "ray"
    if len(str(inside)) <= LONGEST_RAY_FOLDER:
        inside.mkdir(exist_ok=True)
        return inside
    return Path(tempfile.mkdtemp(prefix="sfl-"))


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


def _wait_until_up(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end:
        if process.poll() is not None:
            break
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    tail = "\n".join(log.read_text(errors="replace").strip().splitlines()[-8:])
    raise FederationError(f"the simulation SuperLink did not start:\n{tail}", where=str(log), remedy="read the log")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _tool(name: str) -> list[str]:
    """A command of this environment, whether or not it is activated."""
    return [str(Path(sys.executable).parent / name)]
