"""A deployment as its people use it, on this machine: kits unpacked, images, both ends served by their own commands."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import yaml
from flwr.app import Context, RecordDict

from client.connection import Connection
from client.site_file import read_site_file
from deploy.create import create_deployment
from deploy.layout import Deployment, DeploymentFile, open_deployment
from server.app import job_folder
from tests.client.builders import write_images
from tests.e2e.processes import processes_of
from tests.e2e.test_grpc import free_ports
from tests.server.builders import Bench, World

START_SECONDS, RUN_SECONDS, STOP_SECONDS = 600.0, 2400.0, 120.0
"""For machines with other work: an idle one needs a small part of these."""


class Plants:
    """An owner's deployment and its sites, all on this machine.

    Args:
        world: Where release and scenes come from.
        folder: An empty folder.
        sites: Names.
        **changes: Of the experiment, as for :func:`tests.server.builders.experiment_with`.
    """

    def __init__(self, world: World, folder: Path, sites: Sequence[str], **changes: Any) -> None:
        self.bench = Bench(world, folder, **{"federation__enrol_seconds": START_SECONDS, **changes})
        self.folder, self.sites = folder, tuple(sites)
        fleet, control, *nodes = free_ports(2 + len(sites))
        file = DeploymentFile(
            name="plants",
            host="127.0.0.1",
            bind="127.0.0.1",
            port=fleet,
            control_port=control,
            sites=self.sites,
            home=self.bench.home,
        )
        create_deployment(folder / "plants", file, days=2)
        self.owner: Deployment = open_deployment(folder / "plants")
        for index, (site, port) in enumerate(zip(sites, nodes, strict=True)):
            with tarfile.open(self.owner.kits / f"{site}.tar.gz") as tar:
                tar.extractall(folder / "sites", filter="data")
            images = self.site_file(site).parent / "images"
            write_images(images / "task", 8, "depth", seed=index)
            write_images(images / "pairs" / "rgb", 6, "rgb", seed=index + 1)
            write_images(images / "pairs" / "target", 6, "depth", seed=index + 2)
            with self.changed(site) as raw:
                raw["connection"]["runtime_port"] = port

    def site_file(self, site: str) -> Path:
        return self.folder / "sites" / site / "site.yaml"

    def home(self, site: str) -> Path:
        """What the site keeps."""
        return self.site_file(site).parent / "state"

    def output(self, name: str) -> Path:
        """What a served site, or the ``owner``, prints."""
        return self.folder / f"{name}.out"

    @contextmanager
    def changed(self, site: str) -> Iterator[dict[str, Any]]:
        """A ``site.yaml`` to be changed in the body; a served site reads it anew for each message."""
        raw = yaml.safe_load(self.site_file(site).read_text())
        yield raw
        self.site_file(site).write_text(yaml.safe_dump(raw))

    def connection(self, site: str) -> Connection:
        connection = read_site_file(self.site_file(site)).connection
        assert connection is not None
        return connection

    def context(self, site: str, node: int) -> Context:
        config: dict[str, Any] = {"site-config": str(self.site_file(site))}
        return Context(run_id=1, node_id=node, node_config=config, state=RecordDict(), run_config={})

    def start_run(self, *options: str, config: Path | None = None) -> subprocess.Popen[bytes]:
        """``socket-owner run``; what it prints is in ``output("run")``."""
        config = config or self.bench.config
        return program(
            "socket-owner",
            *("run", str(self.owner.folder), "--config", str(config), "--json", *options),
            output=self.output("run"),
        )

    def finished(self, run: subprocess.Popen[bytes]) -> int:
        """The run's exit code."""
        try:
            return run.wait(RUN_SECONDS)
        finally:
            run.kill()

    def records(self) -> list[dict[str, Any]]:
        """The lines of ``rounds.jsonl`` so far."""
        path = job_folder(self.bench.home, self.bench.experiment) / "rounds.jsonl"
        whole = path.read_text().rpartition("\n")[0] if path.exists() else ""  # the last line may be being written
        return [json.loads(line) for line in whole.splitlines()]


def program(
    name: str, *arguments: str, output: Path, environment: Mapping[str, str] | None = None
) -> subprocess.Popen[bytes]:
    """One of this project's commands, with both its streams in a file."""
    variables = {**os.environ, "OMP_NUM_THREADS": "1", **(environment or {})}
    with output.open("wb") as file:
        return subprocess.Popen(
            [str(Path(sys.executable).parent / name), *arguments], env=variables, stdout=file, stderr=file
        )


def wait_for(output: Path, text: str, process: subprocess.Popen[bytes]) -> None:
    """Waits until a living process has printed something."""
    wait_until(lambda: text in output.read_text(), process, output.read_text)


def wait_until(done: Callable[[], object], process: subprocess.Popen[bytes], tell: Callable[[], object]) -> None:
    """Waits for something that happens while a process lives; if not, ``tell`` says what was seen."""
    end = time.monotonic() + START_SECONDS
    while not done():
        assert process.poll() is None, tell()
        assert time.monotonic() < end, tell()
        time.sleep(0.05)


@contextmanager
def serving_owner(plants: Plants) -> Iterator[subprocess.Popen[bytes]]:
    """``socket-owner serve``, once its SuperLink is up and the sites' keys are registered."""
    output = plants.output("owner")
    owner = program("socket-owner", "serve", str(plants.owner.folder), output=output)
    try:
        wait_for(output, "superlink: up", owner)
        wait_for(output, f"of {len(plants.sites)} sites connected", owner)  # hence registered
        yield owner
    finally:
        end(owner, signal.SIGTERM)


def serve_site(
    plants: Plants,
    site: str,
    stack: ExitStack,
    *,
    sign: signal.Signals = signal.SIGTERM,
    environment: Mapping[str, str] | None = None,
) -> subprocess.Popen[bytes]:
    """``socket-site serve``, which the stack ends by ``sign`` unless it has ended by then."""
    process = program(
        "socket-site", "serve", str(plants.site_file(site)), output=plants.output(site), environment=environment
    )
    stack.callback(lambda: end(process, sign) if process.poll() is None else None)
    return process


def wait_for_site(plants: Plants, site: str, process: subprocess.Popen[bytes]) -> None:
    """Waits until a served site was let in."""
    wait_for(plants.output(site), f"site {site}: up", process)


def end(process: subprocess.Popen[bytes], sign: signal.Signals) -> None:
    """Asks a served end to stop, or kills it."""
    process.send_signal(sign)
    try:
        assert process.wait(STOP_SECONDS) == (-sign if sign == signal.SIGKILL else 0)
    finally:
        process.kill()


def gone_from(folder: Path, seconds: float = STOP_SECONDS) -> bool:
    """Whether no process names a folder any more, within some seconds."""
    until = time.monotonic() + seconds
    while processes_of(folder) and time.monotonic() < until:
        time.sleep(0.2)
    return processes_of(folder) == []
