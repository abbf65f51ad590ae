"""Deployed sites: a SuperLink and two SuperNodes, messages over gRPC, each site from its own ``site.yaml``.

Without TLS, on loopback: transport and deployment code are tested here, certificates are Flower's.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
import pytest

from client.app import app
from client.journal import Journal
from server import rounds
from server.app import job_folder
from server.checkpoint import Identity, load_newest
from server.flower_link import QUIET, stop_group
from server.job import Job
from server.local_grid import LocalGrid
from socket_core.run_config import APP
from tests.client.builders import Deployment
from tests.e2e.processes import processes_of
from tests.server.builders import Bench, World

SITES = ("north", "south")


def free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [int(probe.getsockname()[1]) for probe in probes]


@contextmanager
def running(name: str, arguments: list[str], environment: dict[str, str], folder: Path) -> Iterator[Path]:
    """A Flower process for the length of the body; gives its log."""
    log = folder / f"{name}-{len(list(folder.glob('*.log')))}.log"
    command = [str(Path(sys.executable).parent / name), *arguments]
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, cwd=folder, env=environment, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
    try:
        yield log
    finally:
        stop_group(process)


def wait_for_port(port: int, log: Path) -> None:
    end = time.monotonic() + 60
    while time.monotonic() < end:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    raise AssertionError(log.read_text(errors="replace")[-2000:])


@pytest.mark.flwr
def test_deployed_sites_over_grpc_reach_the_parameters_of_the_run_in_process(world: World, tmp_path: Path) -> None:
    bench = Bench(world, tmp_path / "grpc", federation__sites=2, federation__quorum=2)
    key = bench.home / "keys" / "owner.pub.pem"
    deployments = [Deployment(tmp_path / name, key, name=name, seed=i) for i, name in enumerate(SITES)]
    folder = tmp_path / "flower"
    folder.mkdir()
    control, fleet, *nodes = free_ports(4)
    environment = {**os.environ, **QUIET, "FLWR_HOME": str(folder / "home"), "OMP_NUM_THREADS": "1"}
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    (folder / "home").mkdir()
    (folder / "home" / "config.toml").write_text(
        f'[superlink]\ndefault = "dep"\n[superlink.dep]\naddress = "127.0.0.1:{control}"\ninsecure = true\n'
    )
    with ExitStack() as stack:
        link = ["--insecure", "--host", "127.0.0.1", "--port", str(control)]
        link += ["--fleet-api-address", f"127.0.0.1:{fleet}", "--disable-runtime-dependency-installation"]
        log = stack.enter_context(running("flower-superlink", link, environment, folder))
        wait_for_port(control, log)
        wait_for_port(fleet, log)
        for deployment, port in zip(deployments, nodes, strict=True):
            node = ["--insecure", "--superlink", f"127.0.0.1:{fleet}", "--host", "127.0.0.1", "--port", str(port)]
            node += ["--node-config", f'site-config="{deployment.path}"']
            stack.enter_context(running("flower-supernode", node, environment, folder))
        config = f'config="{bench.config}" home="{bench.home}" cache="{bench.cache}"'
        flwr = str(Path(sys.executable).parent / "flwr")
        done = subprocess.run(
            [flwr, "run", str(APP), "dep", "--stream", "--run-config", config],
            env=environment,
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
        output = done.stdout + done.stderr
    home = job_folder(bench.home, bench.experiment)
    newest = load_newest(home / "checkpoints", Identity(bench.experiment.digest(), bench.release.info.digest))
    assert newest is not None, output[-3000:]
    state, _ = newest
    assert state.round == bench.experiment.federation.rounds, output[-3000:]

    contexts = {i: deployment.context(i) for i, deployment in enumerate(deployments, start=2)}
    job = Job(bench.experiment, bench.release, bench.release_folder, tmp_path / "inside")
    inside = rounds.run(LocalGrid(app, contexts), job)
    np.testing.assert_array_equal(state.parameters, inside.parameters)
    journal = Journal(tmp_path / "north" / "home" / "egress.sqlite", create=False).read()
    assert {line["kind"] for line in journal} == {"Enrolment", "Update"}  # it has no labels, and is not asked to test
    assert processes_of(folder) == []
