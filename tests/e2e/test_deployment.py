"""A deployment as its people use it: kits unpacked, both ends served, a run; and who is not let in.

TLS and node keys on loopback, three sites. Slow: each message starts a Python process with PyTorch.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from flwr.app import Context, RecordDict

from client.app import app
from client.connection import Connection
from client.site_file import read_site_file
from deploy import commands
from deploy.create import create_deployment
from deploy.layout import Deployment, DeploymentFile, open_deployment
from deploy.pki import create_authority, create_node_key
from server import rounds
from server.app import job_folder
from server.checkpoint import Identity, load_newest
from server.job import Job
from server.local_grid import LocalGrid
from tests.client.builders import write_images
from tests.e2e.processes import processes_of
from tests.e2e.test_grpc import free_ports
from tests.server.builders import Bench, World

SITES = ("east", "north", "south")
START_SECONDS, RUN_SECONDS, STOP_SECONDS = 600.0, 2400.0, 120.0
"""For machines with other work: an idle one needs a small part of these."""


class Plants:
    """An owner's deployment and three sites, all on this machine, each served by its own command."""

    def __init__(self, world: World, folder: Path) -> None:
        changes = {"quorum": 3, "rounds": 3, "enrol_seconds": START_SECONDS, "deadline_seconds": START_SECONDS}
        patient: dict[str, Any] = {f"federation__{key}": value for key, value in changes.items()}
        self.bench = Bench(world, folder, **patient)
        self.folder = folder
        fleet, control, *nodes = free_ports(5)
        file = DeploymentFile(
            name="plants",
            host="127.0.0.1",
            bind="127.0.0.1",
            port=fleet,
            control_port=control,
            sites=SITES,
            home=self.bench.home,
        )
        create_deployment(folder / "plants", file, days=2)
        self.owner: Deployment = open_deployment(folder / "plants")
        for index, (site, port) in enumerate(zip(SITES, nodes, strict=True)):
            with tarfile.open(self.owner.kits / f"{site}.tar.gz") as tar:
                tar.extractall(folder / "sites", filter="data")
            images = self.site_file(site).parent / "images"
            write_images(images / "task", 8, "depth", seed=index)
            write_images(images / "pairs" / "rgb", 6, "rgb", seed=index + 1)
            write_images(images / "pairs" / "target", 6, "depth", seed=index + 2)
            raw = yaml.safe_load(self.site_file(site).read_text())
            raw["connection"]["runtime_port"] = port
            self.site_file(site).write_text(yaml.safe_dump(raw))

    def site_file(self, site: str) -> Path:
        return self.folder / "sites" / site / "site.yaml"

    def connection(self, site: str) -> Connection:
        connection = read_site_file(self.site_file(site)).connection
        assert connection is not None
        return connection

    def context(self, site: str, node: int) -> Context:
        config: dict[str, Any] = {"site-config": str(self.site_file(site))}
        return Context(run_id=1, node_id=node, node_config=config, state=RecordDict(), run_config={})


def program(name: str, *arguments: str, output: Path) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with output.open("wb") as file:
        return subprocess.Popen(
            [str(Path(sys.executable).parent / name), *arguments], env=environment, stdout=file, stderr=file
        )


def wait_for(output: Path, text: str, process: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + START_SECONDS
    while text not in output.read_text():
        assert process.poll() is None, output.read_text()
        assert time.monotonic() < end, output.read_text()
        time.sleep(0.2)


@pytest.fixture(scope="module")
def plants(world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plants]:
    """Everything served; at the end the owner is asked to end, and a site's supervisor is killed."""
    made = Plants(world, tmp_path_factory.mktemp("deployment"))
    with ExitStack() as stack:
        output = made.folder / "owner.out"
        owner = program("socket-owner", "serve", str(made.owner.folder), output=output)
        stack.callback(end, owner, signal.SIGTERM)
        wait_for(output, "superlink: up", owner)
        wait_for(output, "of 3 sites connected", owner)  # hence registered
        for site in SITES:
            output = made.folder / f"{site}.out"
            process = program("socket-site", "serve", str(made.site_file(site)), output=output)
            stack.callback(end, process, signal.SIGKILL if site == "south" else signal.SIGTERM)
            wait_for(output, f"site {site}: up", process)
        yield made
    assert gone_from(made.folder, STOP_SECONDS)


def end(process: subprocess.Popen[bytes], sign: signal.Signals) -> None:
    process.send_signal(sign)
    try:
        assert process.wait(STOP_SECONDS) == (-sign if sign == signal.SIGKILL else 0)
    finally:
        process.kill()


def gone_from(folder: Path, seconds: float) -> bool:
    """Whether no process names a folder any more, within some seconds."""
    until = time.monotonic() + seconds
    while processes_of(folder) and time.monotonic() < until:
        time.sleep(0.2)
    return processes_of(folder) == []


@pytest.mark.flwr
def test_three_sites_over_tls_reach_the_parameters_of_the_run_in_process(plants: Plants, tmp_path: Path) -> None:
    bench, output = plants.bench, plants.folder / "run.out"
    run = program(
        "socket-owner", "run", str(plants.owner.folder), "--config", str(bench.config), "--json", output=output
    )
    try:
        status = run.wait(RUN_SECONDS)
    finally:
        run.kill()
    assert status == 0, output.read_text()
    facts = json.loads(output.read_text().splitlines()[-1])
    assert (facts["status"], facts["rounds"], facts["sites"]) == ("finished:completed", 3, list(SITES))

    home = job_folder(bench.home, bench.experiment)
    newest = load_newest(home / "checkpoints", Identity(bench.experiment.digest(), bench.release.info.digest))
    assert newest is not None
    contexts = {node: plants.context(site, node) for node, site in enumerate(SITES, start=2)}
    inside = rounds.run(LocalGrid(app, contexts), Job(bench.experiment, bench.release, bench.release_folder, tmp_path))
    np.testing.assert_allclose(newest[0].parameters, inside.parameters, rtol=0, atol=1e-6)
    logs = [*plants.owner.logs.iterdir(), *(plants.folder / "sites").glob("*/state/log/*")]
    assert len(logs) == 5
    for log in logs:
        text = log.read_text()
        assert str(plants.folder / "sites" / "north" / "images") not in text
        assert ".png" not in text
        assert "PRIVATE KEY" not in text


@pytest.mark.flwr
def test_who_has_no_registered_key_or_no_such_certificate_is_not_let_in(plants: Plants, tmp_path: Path) -> None:
    (tmp_path / "stranger").write_bytes(create_node_key()[0])
    (tmp_path / "other.crt").write_bytes(create_authority("others").certificate)
    good = plants.connection("north")
    stranger = good.model_copy(update={"node_key": tmp_path / "stranger"})
    fooled = good.model_copy(update={"ca": tmp_path / "other.crt"})
    key = ["--auth-supernode-private-key", str(good.node_key)]
    ca = ["--root-certificates", str(good.ca)]
    base = commands.supernode(plants.site_file("north"), good)
    attempts = {
        "no key": [word for word in base if word not in key],
        "unregistered key": commands.supernode(plants.site_file("north"), stranger),
        "other authority": commands.supernode(plants.site_file("north"), fooled),
        "plain": [*(word for word in base if word not in (*key, *ca)), "--insecure"],
    }
    running = {}
    try:
        for (name, command), port in zip(attempts.items(), free_ports(4), strict=True):
            command[command.index("--port") + 1] = str(port)
            with (tmp_path / f"{name}.out").open("wb") as output:
                running[name] = subprocess.Popen(
                    [*command, "--max-retries", "1"],
                    env=commands.environment(tmp_path / name),
                    cwd=tmp_path,
                    stdout=output,
                    stderr=output,
                    start_new_session=True,
                )
        status = {name: process.wait(START_SECONDS) for name, process in running.items()}
    finally:
        for process in running.values():
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
    said = {name: (tmp_path / f"{name}.out").read_text() for name in attempts}
    assert status == dict.fromkeys(attempts, 1), said
    assert not [name for name, text in said.items() if "SuperNode ID" in text]
    assert "All SuperNodes must be registered" in said["no key"]
    assert "Failed to activate SuperNode" in said["unregistered key"]
    assert "handshake" in said["other authority"].lower()
    assert "Exit Code: 305" in said["plain"]
    assert gone_from(tmp_path, STOP_SECONDS)
