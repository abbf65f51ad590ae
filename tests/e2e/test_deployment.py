"""A deployment as its people use it: kits unpacked, both ends served, a run; and who is not let in.

TLS and node keys on loopback, three sites. Slow: each message starts a Python process with PyTorch.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from client.app import app
from deploy import commands
from deploy.pki import create_authority, create_node_key
from server import rounds
from server.app import job_folder
from server.checkpoint import Identity, load_newest
from server.job import Job
from server.journal import Journal
from server.local_grid import LocalGrid
from socket_core.config import load_experiment
from socket_core.keys import create_keypair
from tests.e2e.faults import wrong_clock
from tests.e2e.fleet import heartbeat, login
from tests.e2e.plants import (
    START_SECONDS,
    Plants,
    end,
    gone_from,
    program,
    serve_site,
    serving_owner,
    wait_for,
    wait_for_site,
)
from tests.e2e.test_grpc import free_ports
from tests.server.builders import World, raw_with

SITES = ("east", "north", "south")


@pytest.fixture(scope="module")
def plants(world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plants]:
    """Everything served; at the end the owner is asked to end, and a site's supervisor is killed."""
    patient = {"quorum": 3, "rounds": 3, "deadline_seconds": START_SECONDS}
    changes: dict[str, Any] = {f"federation__{key}": value for key, value in patient.items()}
    made = Plants(world, tmp_path_factory.mktemp("deployment"), SITES, **changes)
    with ExitStack() as stack:
        stack.enter_context(serving_owner(made))
        for site in SITES:
            process = serve_site(made, site, stack, sign=signal.SIGKILL if site == "south" else signal.SIGTERM)
            wait_for_site(made, site, process)
        yield made
    assert gone_from(made.folder)


@pytest.mark.flwr
def test_three_sites_over_tls_reach_the_parameters_of_the_run_in_process(plants: Plants, tmp_path: Path) -> None:
    bench, output = plants.bench, plants.output("run")
    assert plants.finished(plants.start_run()) == 0, output.read_text()
    facts = json.loads(output.read_text().splitlines()[-1])
    assert (facts["status"], facts["rounds"], facts["sites"]) == ("finished:completed", 3, list(SITES))

    home = job_folder(bench.home, bench.experiment)
    newest = load_newest(home / "checkpoints", Identity(bench.experiment.digest(), bench.release.info.digest))
    assert newest is not None
    contexts = {node: plants.context(site, node) for node, site in enumerate(SITES, start=2)}
    inside = rounds.run(LocalGrid(app, contexts), Job(bench.experiment, bench.release, bench.release_folder, tmp_path))
    np.testing.assert_allclose(newest[0].parameters, inside.parameters, rtol=0, atol=1e-6)
    deployed, simulated = (
        [(record["bytes_up"], record["bytes_down"]) for record in Journal(path).read()]
        for path in (home / "rounds.jsonl", tmp_path / "rounds.jsonl")
    )
    assert deployed == simulated
    assert all(up > newest[0].parameters.nbytes for up, _ in deployed)
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
    assert gone_from(tmp_path)


@pytest.mark.flwr
def test_a_forbidden_method_and_a_foreign_release_are_refused_and_the_round_goes_on(plants: Plants) -> None:
    changes = {"quorum": 1, "rounds": 1, "enrol_seconds": START_SECONDS, "deadline_seconds": START_SECONDS}
    values: dict[str, Any] = {f"federation__{key}": value for key, value in changes.items()}
    config = plants.folder / "refusals.yaml"
    config.write_text(yaml.safe_dump(raw_with(name="refusals", **values)))
    stranger = create_keypair(plants.folder / "keys", "stranger")[1]
    forbids, distrusts = plants.site_file("north").read_text(), plants.site_file("south").read_text()
    try:
        with plants.changed("north") as raw:
            raw["policy"]["methods"] = ["adabn"]
        with plants.changed("south") as raw:
            raw["owner_key"] = str(stranger)
        assert plants.finished(plants.start_run(config=config)) == 0, plants.output("run").read_text()
    finally:
        plants.site_file("north").write_text(forbids)
        plants.site_file("south").write_text(distrusts)
    folder = job_folder(plants.bench.home, load_experiment(config))
    [record] = [json.loads(line) for line in (folder / "rounds.jsonl").read_text().splitlines()]
    assert (record["sites"], record["refused"]) == (["east"], {"north": "refused: policy"})
    assert record["declined"] == {"south": "release"}
    owners = [folder / "rounds.jsonl", *plants.owner.logs.iterdir(), plants.output("run")]
    assert not [path for path in owners if "policy.methods" in path.read_text() or "another key" in path.read_text()]
    assert "policy.methods" in (plants.home("north") / "log" / "supernode.log").read_text()
    assert "signed by another key" in (plants.home("south") / "log" / "supernode.log").read_text()


@pytest.mark.flwr
def test_a_login_counts_for_its_own_node_and_for_five_minutes(plants: Plants) -> None:
    """Flower signs a timestamp and nothing else: what TLS keeps secret could be used again within that time."""
    assert heartbeat(plants, "north", login(plants, "north")) == ""
    captured = login(plants, "north", -200.0)
    assert [heartbeat(plants, "north", captured) for _ in range(2)] == ["", ""]
    assert heartbeat(plants, "south", captured) == "UNAUTHENTICATED: Invalid node ID"
    for seconds in (-600.0, -310.0, 60.0, 600.0):
        assert heartbeat(plants, "north", login(plants, "north", seconds)) == "UNAUTHENTICATED: Invalid timestamp"
    key, time, _ = login(plants, "north")
    foreign = [key, time, login(plants, "south")[2]]
    assert heartbeat(plants, "north", foreign) == "UNAUTHENTICATED: Invalid signature"
    assert heartbeat(plants, "north", [time]) == "UNAUTHENTICATED: Missing authentication metadata"


@pytest.mark.flwr
@pytest.mark.parametrize("seconds", [600.0, -600.0], ids=["ahead", "behind"])
def test_a_clock_ten_minutes_off_is_not_let_in_and_the_site_says_so(
    plants: Plants, tmp_path: Path, seconds: float
) -> None:
    shutil.copytree(plants.site_file("north").parent, tmp_path / "kit", ignore=shutil.ignore_patterns("state"))
    path = tmp_path / "kit" / "site.yaml"
    raw = yaml.safe_load(path.read_text())
    raw["connection"]["runtime_port"] = free_ports(1)[0]
    path.write_text(yaml.safe_dump(raw))
    output = tmp_path / "kit.out"
    process = program(
        "socket-site", "serve", str(path), output=output, environment=wrong_clock(tmp_path / "clock", seconds)
    )
    try:
        wait_for(output, "Set this machine's clock", process)
    finally:
        end(process, signal.SIGTERM)
    assert "connected to" not in output.read_text()
    assert gone_from(tmp_path)
