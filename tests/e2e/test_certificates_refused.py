"""Certificates of the right authority that are wrong all the same, towards a real SuperNode.

The servers are gRPC's own, with TLS and nothing behind it: who refuses here is the site, before it has said anything.
"""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import grpc
import pytest
import yaml
from typer.testing import CliRunner

from client.cli import app as site_app
from tests.client.tls_builders import DAY, NOW, Authority
from tests.deploy.builders import deployment_in
from tests.e2e.plants import end, gone_from, program, wait_for
from tests.e2e.test_grpc import free_ports


@contextmanager
def grpc_server(pem: Path, port: int) -> Iterator[None]:
    """Listens with a certificate and its key, and knows no service."""
    both = pem.read_bytes()
    server = grpc.server(ThreadPoolExecutor(1))
    assert server.add_secure_port(f"127.0.0.1:{port}", grpc.ssl_server_credentials([(both, both)])) == port
    server.start()
    try:
        yield
    finally:
        server.stop(None).wait()


@pytest.mark.flwr
def test_a_site_does_not_talk_to_an_expired_or_misnamed_certificate(tmp_path: Path) -> None:
    kits = deployment_in(tmp_path / "plants", host="127.0.0.1", sites=("expired", "misnamed")).kits
    authority = Authority.make(tmp_path / "ca")
    wrong = {"expired": {"end": NOW - DAY / 2}, "misnamed": {"names": ["other.example"], "addresses": []}}
    says = {"expired": "has ended", "misnamed": "is for another name"}
    gives_up = {"expired": "certificate has expired", "misnamed": "Connection attempt failed"}
    fails = {"expired": "certificate dates", "misnamed": "certificate name"}
    with ExitStack() as stack:
        served = {}
        for name, changes in wrong.items():
            port, runtime = free_ports(2)
            stack.enter_context(grpc_server(authority.issue(**changes), port))  # type: ignore[arg-type]
            path = kits / name / "site.yaml"
            raw = yaml.safe_load(path.read_text())
            raw["connection"] |= {"superlink": f"127.0.0.1:{port}", "runtime_port": runtime, "ca": str(authority.pem)}
            path.write_text(yaml.safe_dump(raw))
            served[name] = program("socket-site", "serve", str(path), output=tmp_path / f"{name}.out")
            stack.callback(end, served[name], signal.SIGTERM)
        for name, process in served.items():
            output, log = tmp_path / f"{name}.out", kits / name / "state" / "log" / "supernode.log"
            wait_for(output, says[name], process)
            wait_for(log, gives_up[name], process)
            assert "SuperNode ID" not in log.read_text()
            doctor = CliRunner().invoke(site_app, ["doctor", str(kits / name / "site.yaml"), "--json"])
            states = {check["name"]: check["state"] for check in json.loads(doctor.stdout)["checks"]}
            assert states[fails[name]] == "failed"
            assert states["TLS"] == "ok"
    assert not any("connected to" in (tmp_path / f"{name}.out").read_text() for name in wrong)
    assert gone_from(tmp_path)
