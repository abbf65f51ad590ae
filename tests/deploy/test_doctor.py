"""``socket-owner doctor`` of a deployment: sound, ended, mismatched, open to others, served and not."""

from __future__ import annotations

import json
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner

from deploy import doctor
from deploy.create import renew_certificate
from deploy.layout import Deployment, write_file
from deploy.pki import Issued, create_authority, issue_server
from server.cli import app
from socket_core.checks import Check
from socket_core.errors import DeploymentError
from tests.client.tls_builders import serving
from tests.deploy.builders import deployment_in
from tests.server.builders import tree

NOW = datetime.now(UTC)
OWN = ["certificate dates", "certificate name", "certificate authority", "deployment keys", "ports", "SuperLink"]


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


@pytest.fixture
def plants(tmp_path: Path) -> Deployment:
    return deployment_in(tmp_path / "plants", port=free_port(), control_port=free_port(), bind="127.0.0.1")


def checks_of(deployment: Deployment) -> dict[str, Check]:
    return {check.name: check for check in doctor.examine(deployment.folder).checks}


@contextmanager
def served(deployment: Deployment) -> Iterator[Deployment]:
    """The deployment as if its SuperLink ran: TLS with its certificate, and something on the control port."""
    pem = deployment.folder / "served.pem"
    pem.write_bytes(deployment.server_certificate.read_bytes() + deployment.server_key.read_bytes())
    with serving(pem) as server, socket.create_server(("127.0.0.1", 0)) as control:
        changes = {"port": server.port, "control_port": control.getsockname()[1]}
        yield Deployment(deployment.folder, deployment.file.model_copy(update=changes))


def test_a_new_deployment_has_no_failure_and_stays_as_it_is(plants: Deployment) -> None:
    before = tree(plants.folder)
    result = CliRunner().invoke(app, ["doctor", str(plants.folder), "--json"])
    assert result.exit_code == 0, result.output
    checks = {check["name"]: check for check in json.loads(result.stdout)["checks"]}
    assert checks["deployment"]["found"] == f"plants: 2 sites, owner.example.org:{plants.file.port}"
    assert [checks[name]["state"] for name in OWN] == ["ok"] * 5 + ["warning"]
    assert checks["certificate dates"]["found"] == "99 days left"
    assert checks["SuperLink"]["remedy"] == f"socket-owner serve {plants.folder}"
    assert checks["sites"]["state"] == "skipped"
    assert checks["keys"]["state"] == "ok"
    assert tree(plants.folder) == before


def test_a_file_that_cannot_be_read_is_the_first_failure(plants: Deployment) -> None:
    (plants.folder / "deployment.yaml").write_text("nam: x\n")
    found = doctor.examine(plants.folder)
    assert next((c.name, c.exit_code) for c in found.checks if c.state == "failed") == ("deployment", 2)
    assert not {check.name for check in found.checks} & set(OWN)


def test_certificates_that_end_or_are_for_another_host(plants: Deployment) -> None:
    authority = Issued(plants.ca.read_bytes(), plants.ca_key.read_bytes())

    def dates(days: int, begun: timedelta) -> Check:
        issued = issue_server(authority, "owner.example.org", days=days, now=NOW - begun)
        plants.server_certificate.write_bytes(issued.certificate)
        plants.server_key.write_bytes(issued.key)
        return checks_of(plants)["certificate dates"]

    assert dates(20, timedelta()).state == "warning"
    assert "renew-certificate" in dates(20, timedelta()).remedy
    ended = dates(2, timedelta(days=3))
    assert (ended.state, ended.exit_code, "renew-certificate" in ended.remedy) == ("failed", 9, True)
    assert checks_of(plants)["certificate authority"].state == "skipped"
    renew_certificate(plants, days=100)
    assert checks_of(plants)["certificate dates"].state == "ok"
    write_file(Deployment(plants.folder, plants.file.model_copy(update={"host": "elsewhere.example.org"})))
    check = checks_of(plants)["certificate name"]
    assert (check.state, check.exit_code) == ("failed", 9)
    assert "not for elsewhere.example.org" in check.found


def test_certificates_and_keys_that_do_not_belong_together(plants: Deployment) -> None:
    plants.server_key.write_bytes(create_authority("x").key)
    assert checks_of(plants)["certificate authority"].found == "server.key is not the key of server.crt"
    plants.ca.write_bytes(create_authority("plants").certificate)
    check = checks_of(plants)["certificate authority"]
    assert (check.exit_code, check.found) == (9, "ca.crt did not sign server.crt: sites will refuse it")
    plants.ca.unlink()
    assert "cannot be read" in checks_of(plants)["certificate authority"].found


def test_private_keys_of_server_authority_and_kits(plants: Deployment) -> None:
    (plants.kits / "north" / "node_key").chmod(0o640)
    check = checks_of(plants)["deployment keys"]
    assert (check.state, check.found) == ("failed", "group or others can access node_key")
    shutil.rmtree(plants.kits)
    plants.ca_key.unlink()  # kept elsewhere
    assert checks_of(plants)["deployment keys"].state == "ok"
    plants.server_key.unlink()
    assert "renew-certificate" in checks_of(plants)["deployment keys"].remedy


def test_a_port_that_another_program_has(plants: Deployment) -> None:
    with socket.create_server(("127.0.0.1", plants.file.port)):
        checks = checks_of(plants)
        assert (checks["ports"].state, checks["ports"].exit_code) == ("failed", 9)
        assert (checks["SuperLink"].state, checks["sites"].state) == ("skipped", "skipped")


def test_the_superlink_shows_the_certificate_that_lies_here(plants: Deployment) -> None:
    with served(plants) as running:
        assert doctor.check_ports(running).found.endswith("both are listened on")
        assert doctor.check_superlink(running).state == "ok"
        renew_certificate(plants, days=100)
        check = doctor.check_superlink(running)
    assert (check.state, check.remedy) == ("warning", f"restart socket-owner serve {plants.folder}")
    with serving(None) as other, socket.create_server(("127.0.0.1", 0)) as control:
        changes = {"port": other.port, "control_port": control.getsockname()[1]}
        check = doctor.check_superlink(Deployment(plants.folder, plants.file.model_copy(update=changes)))
    assert (check.state, check.exit_code) == ("failed", 9)


@pytest.mark.parametrize(
    ("north", "south", "state"),
    [("online", "online", "ok"), ("online", "offline", "warning"), ("registered", "online", "warning"),
     ("online", "", "failed"), ("online", "unregistered", "failed")],
)  # fmt: skip
def test_sites_are_registered_and_online(
    plants: Deployment, monkeypatch: pytest.MonkeyPatch, north: str, south: str, state: str
) -> None:
    listed = [{"node-id": str(i), "status": s} for i, s in enumerate((north, south)) if s]
    plants.registered.parent.mkdir()
    plants.registered.write_text(json.dumps({"north": "0", "south": "1"}))
    monkeypatch.setattr("deploy.nodes.ask", lambda *_: {"success": True, "nodes": listed})
    monkeypatch.setattr(doctor, "answers", lambda _: True)
    check = doctor.check_sites(plants)
    assert check.state == state
    said = {"registered": "registered, never online", "": "not registered", "unregistered": "not registered"}
    assert check.found == f"north {said.get(north, north)}; south {said.get(south, south)}"


def test_a_superlink_that_gives_no_answer(plants: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    def silent(*_: object) -> None:
        raise DeploymentError("the SuperLink gives no answer (down)", remedy="look at its log")

    monkeypatch.setattr("deploy.nodes.ask", silent)
    with served(plants) as running:
        write_file(running)
        checks = checks_of(plants)
    assert (checks["sites"].state, checks["sites"].exit_code) == ("failed", 9)
