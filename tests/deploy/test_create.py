"""A deployment's folder: what is in it, who may read it, and that nothing is overwritten."""

from __future__ import annotations

import hashlib
import stat
import tarfile
import tomllib
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization as ser

from client.cli import app as site_app
from client.connection import Connection
from client.site_file import read_site_file
from deploy.create import create_deployment, renew_certificate
from deploy.kit import pack
from deploy.layout import Deployment, open_deployment
from deploy.pki import check_validity
from socket_core.errors import ConfigError, DeploymentError
from socket_core.keys import create_keypair, load_private_key, load_public_key
from tests.deploy.builders import command_names, deployment_in, file_with
from tests.server.builders import tree


@pytest.fixture(scope="module")
def plants(tmp_path_factory: pytest.TempPathFactory) -> Deployment:
    return deployment_in(tmp_path_factory.mktemp("made") / "plants")


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_private_keys_are_the_owners_alone(plants: Deployment) -> None:
    private = [plants.ca_key, plants.server_key, plants.home / "keys" / "owner.key.pem"]
    private += [plants.kits / "north" / "node_key", plants.kits / "north.tar.gz"]
    assert {mode(path) for path in private} == {0o600}
    assert {mode(plants.folder), mode(plants.ca_key.parent), mode(plants.kits)} == {0o700}
    everything = [p for p in plants.folder.rglob("*") if p.is_file()]
    holding = {p for p in everything if b"PRIVATE KEY" in p.read_bytes()}
    assert holding == {*private[:4], plants.kits / "south" / "node_key"}


def test_a_kit_holds_what_a_site_needs_and_no_private_key_but_its_own(plants: Deployment) -> None:
    kit = plants.kits / "north"
    names = {"README.txt", "ca.crt", "compose.yaml", "node_key", "owner.pub.pem", "site.yaml"}
    assert {p.name for p in kit.iterdir()} == names
    assert (kit / "ca.crt").read_bytes() == plants.ca.read_bytes()
    assert load_public_key(kit / "owner.pub.pem") == load_private_key(plants.home / "keys/owner.key.pem").public_key()
    key = ser.load_ssh_private_key((kit / "node_key").read_bytes(), password=None)
    assert key.public_key() == ser.load_ssh_public_key(plants.node_key("north").read_bytes())
    assert plants.node_key("north").read_bytes() != plants.node_key("south").read_bytes()


def test_the_archive_holds_the_folder(plants: Deployment, tmp_path: Path) -> None:
    with tarfile.open(plants.kits / "north.tar.gz") as tar:
        modes = {m.name: (m.mode, m.mtime, m.uid, m.uname) for m in tar.getmembers()}
        tar.extractall(tmp_path, filter="data")
    assert tree(tmp_path / "north") == tree(plants.kits / "north")
    assert modes["north/node_key"] == (0o600, 0, 0, "")
    assert modes["north/site.yaml"] == (0o644, 0, 0, "")
    assert mode(tmp_path / "north" / "node_key") == 0o600
    digest = hashlib.sha256((plants.kits / "north.tar.gz").read_bytes()).hexdigest()
    assert f"{digest}  north.tar.gz\n" in (plants.kits / "SHA256SUMS").read_text()


def test_the_same_content_gives_the_same_archive() -> None:
    one = pack("north", {"b": b"2", "node_key": b"1"})
    assert one == pack("north", {"node_key": b"1", "b": b"2"})
    assert hashlib.sha256(one).hexdigest() != hashlib.sha256(pack("north", {"b": b"2", "node_key": b"3"})).hexdigest()


def test_the_kits_site_file_is_valid_and_stays_so_wherever_it_is_unpacked(plants: Deployment) -> None:
    kit = plants.kits / "north"
    file = read_site_file(kit / "site.yaml")
    assert file.name == "north"
    assert file.owner_key == kit / "owner.pub.pem"
    assert file.tr == kit / "images" / "task"
    expected = Connection(superlink="owner.example.org:9092", ca=kit / "ca.crt", node_key=kit / "node_key")
    assert file.connection == expected
    assert file.policy.bn_policies == ("local",)


def test_the_readme_has_three_commands_that_exist(plants: Deployment) -> None:
    text = (plants.kits / "north" / "README.txt").read_text()
    commands = [line.split(maxsplit=1)[1] for line in text.splitlines() if line[:2] in ("1.", "2.", "3.")]
    expected = [["tar", "-xzf"], ["socket-site", "serve"], ["socket-site", "unit"]]
    assert [line.split()[:2] for line in commands] == expected
    assert {"serve", "unit"} <= command_names(site_app)
    assert "$" not in text
    assert "owner.example.org:9092" in text


def test_flower_finds_the_superlink_on_loopback(plants: Deployment) -> None:
    connection = tomllib.loads((plants.flower_home / "config.toml").read_text())["superlink"]
    assert connection["socket"] == {"address": "127.0.0.1:9093", "root-certificates": str(plants.ca)}
    assert connection["default"] == "socket"


def test_nothing_is_overwritten(plants: Deployment, tmp_path: Path) -> None:
    before = tree(plants.folder)
    with pytest.raises(DeploymentError, match="nothing is overwritten"):
        create_deployment(plants.folder, file_with(), days=10)
    assert tree(plants.folder) == before
    (tmp_path / "note.txt").write_text("mine")
    with pytest.raises(DeploymentError, match="nothing is overwritten"):
        create_deployment(tmp_path, file_with(), days=10)


def test_an_owners_keys_that_are_there_are_used(tmp_path: Path) -> None:
    _, public = create_keypair(tmp_path / "runs" / "keys", "owner")
    made = deployment_in(tmp_path / "plants", home=tmp_path / "runs")
    assert (made.kits / "south" / "owner.pub.pem").read_bytes() == public.read_bytes()
    assert not (made.folder / "runs").exists()


def test_what_fails_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "runs" / "keys").mkdir(parents=True)
    (tmp_path / "runs" / "keys" / "owner.pub.pem").write_text("half a pair")
    with pytest.raises(Exception, match="key file not found"):
        deployment_in(tmp_path / "plants", home=tmp_path / "runs")
    assert [p.name for p in tmp_path.iterdir()] == ["runs"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sites": ()}, "no site"),
        ({"sites": ("north", "north")}, "'north' is there twice"),
        ({"sites": ("north", "../south")}, "'../south' is no plain name"),
        ({"host": "0.0.0.0"}, "expected a host's name or address"),
        ({"host": "owner.example.org:9092"}, "expected a host's name or address"),
        ({"port": 9093}, "both APIs on port 9093"),
    ],
)
def test_what_could_not_work_is_refused_before_anything_is_made(
    changes: dict[str, object], message: str, tmp_path: Path
) -> None:
    with pytest.raises(DeploymentError, match=message):
        deployment_in(tmp_path / "plants", **changes)
    assert list(tmp_path.iterdir()) == []


def test_a_renewed_certificate_is_of_the_same_authority(tmp_path: Path) -> None:
    made = deployment_in(tmp_path / "plants")
    before = tree(made.folder)
    renew_certificate(made, days=200)
    changed = {name for name, content in tree(made.folder).items() if before.get(name) != content}
    assert changed == {"server/server.crt", "server/server.key"}
    fresh = x509.load_pem_x509_certificate(made.server_certificate.read_bytes())
    fresh.verify_directly_issued_by(x509.load_pem_x509_certificate(made.ca.read_bytes()))
    assert check_validity(made.server_certificate.read_bytes(), where="") == 199
    assert mode(made.server_key) == 0o600


def test_a_folder_without_a_deployment_is_named(tmp_path: Path) -> None:
    with pytest.raises(DeploymentError, match=r"no deployment.yaml here\n.*init-deployment"):
        open_deployment(tmp_path)
    (tmp_path / "deployment.yaml").write_text("name: x\nhost: y\nsites: [a]\nprot: 1\n")
    with pytest.raises(ConfigError, match="did you mean 'port'"):
        open_deployment(tmp_path)
