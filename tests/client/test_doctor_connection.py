"""``socket-site doctor`` with the ``connection`` section that a start kit brings: it is used unless flags say else."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization as ser
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from client.doctor import examine
from client.doctor_connection import check_trusted_apps
from socket_core.checks import Check
from socket_core.errors import ConfigError
from tests.client.builders import Deployment
from tests.client.tls_builders import Authority, serving
from tests.server.builders import World

STEPS = ["DNS", "TCP", "TLS", "certificate dates", "certificate name", "certificate authority"]


@pytest.fixture
def owner(tmp_path: Path) -> Authority:
    return Authority.make(tmp_path / "owner")


@pytest.fixture
def deployed(tmp_path: Path, world: World, owner: Authority) -> Deployment:
    """A site with its kit unpacked."""
    made = Deployment(tmp_path / "site", world.home / "keys" / "owner.pub.pem")
    (made.folder / "ca.crt").write_bytes(owner.pem.read_bytes())
    (made.folder / "node_key").write_text("-----BEGIN OPENSSH PRIVATE KEY-----")
    (made.folder / "node_key").chmod(0o600)
    connect(made, "127.0.0.1:1")
    return made


def connect(site: Deployment, superlink: str, **changes: str) -> None:
    """Writes the section into site.yaml, with paths as a kit has them."""
    site.raw["connection"] = {"superlink": superlink, "ca": "ca.crt", "node_key": "node_key", **changes}
    site.write()


def checks_of(site: Deployment, **given: object) -> dict[str, Check]:
    return {check.name: check for check in examine(site.path, **given).checks}  # type: ignore[arg-type]


def test_the_section_alone_leads_to_the_server(deployed: Deployment, owner: Authority) -> None:
    with serving(owner.issue()) as server:
        connect(deployed, str(server))
        checks = checks_of(deployed)
    assert checks["connection"].found == f"{server}, from site.yaml"
    assert {name: checks[name].state for name in STEPS} == dict.fromkeys(STEPS, "ok")
    assert checks["certificate authority"].found == "signed by ca.crt"
    assert checks["key permissions"].found == "node_key for their owner alone"
    assert checks["trusted apps"].found.startswith("any that the owner's server sends")


def test_flags_override_one_by_one(deployed: Deployment, owner: Authority, tmp_path: Path) -> None:
    stranger = Authority.make(tmp_path / "stranger", "stranger")
    with serving(owner.issue()) as server:
        assert checks_of(deployed)["TCP"].state == "failed"
        checks = checks_of(deployed, server=str(server))
        assert checks["connection"].found == f"{server}, from --server"
        assert checks["certificate authority"].state == "ok"
        other = checks_of(deployed, server=str(server), ca=stranger.pem, node_key=tmp_path / "gone")
    assert "not signed by stranger.pem" in other["certificate authority"].found
    assert (other["key permissions"].found, other["key permissions"].state) == ("gone is not there", "failed")


def test_a_node_key_that_is_open_or_gone(deployed: Deployment) -> None:
    key = deployed.folder / "node_key"
    key.chmod(0o640)
    check = checks_of(deployed)["key permissions"]
    assert (check.state, check.found) == ("failed", "group or others can access node_key")
    key.unlink()
    assert "unpack the start kit again" in checks_of(deployed)["key permissions"].remedy


def test_a_connection_that_cannot_be_right(deployed: Deployment) -> None:
    connect(deployed, "owner.example.org:99999")
    checks = checks_of(deployed)
    assert (checks["connection"].state, checks["connection"].exit_code) == ("failed", 2)
    assert "DNS" not in checks


def test_trusted_apps_are_read_as_flower_reads_them(deployed: Deployment, tmp_path: Path) -> None:
    def text(key: ed25519.Ed25519PrivateKey | ec.EllipticCurvePrivateKey) -> str:
        return key.public_key().public_bytes(ser.Encoding.OpenSSH, ser.PublicFormat.OpenSSH).decode()

    good, bad = text(ed25519.Ed25519PrivateKey.generate()), text(ec.generate_private_key(ec.SECP256R1()))
    path = deployed.folder / "apps.yaml"
    connect(deployed, "127.0.0.1:1", trusted_apps="apps.yaml")
    assert (checks_of(deployed)["trusted apps"].state, checks_of(deployed)["trusted apps"].exit_code) == ("failed", 2)
    path.write_text(f"one: {good}\n")
    assert checks_of(deployed)["trusted apps"].found == "those that 1 keys sign"
    path.write_text(f"one: {good}\ntwo: {bad}\nthree: nonsense\n")
    assert check_trusted_apps(path).found == "no Ed25519 key: two, three"
    path.write_text("{}\n")
    assert check_trusted_apps(path).state == "failed"
    path.write_text("- no mapping\n")
    with pytest.raises(ConfigError):
        check_trusted_apps(path)
