"""An own simulation SuperLink: started in an empty folder, asked to run the app, stopped at the end.

Flower's automatic local SuperLink stays alive with the folder and environment of its first start, and Ray
puts that folder first on the import path: another checkout would then run this one's code. So ours has its
own FLWR_HOME, its own ports and its own life (docs/adr/0006).
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from server.flower_link import QUIET, FlowerLink, stop_group, tool
from socket_core.errors import FederationError

START_SECONDS = 60.0
LONGEST_RAY_FOLDER = 35
"""Ray adds about 70 characters for its sockets, and a socket's path may have 107."""


@dataclass(frozen=True)
class SimulationLink(FlowerLink):
    """A running simulation SuperLink.

    Attributes:
        address: Of its Control API.
        home: Its FLWR_HOME.
    """

    address: str
    home: Path

    def run(self, run_config: dict[str, str], *, sites: int, cpus: int, log: Path) -> subprocess.Popen[bytes]:
        """Starts ``flwr run`` of this app and returns its process; :meth:`finish` says how it ended."""
        federation = f"num-supernodes={sites} client-resources-num-cpus=1 init-args-num-cpus={cpus}"
        return self.start(run_config, log, "--federation-config", federation)


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
    command = [*tool("flower-superlink"), "--insecure", "--simulation", "--host", "127.0.0.1", "--port", str(port)]
    command.append("--disable-runtime-dependency-installation")
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, cwd=empty, env=environment, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
    try:
        _wait_until_up(process, port, log)
        yield SimulationLink("sim", environment, f"127.0.0.1:{port}", home)
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
