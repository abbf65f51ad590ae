"""What Flower's processes are started with, and the units and compose files that start ours."""

from __future__ import annotations

import configparser
import shlex
import shutil
import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import pytest
import yaml

from client.cli import app as site_app
from client.site_file import read_site_file
from deploy import commands
from deploy.layout import Deployment, address
from deploy.units import owner_unit, site_unit
from server.cli import app as owner_app
from server.flower_link import QUIET
from socket_core.errors import DeploymentError
from tests.deploy.builders import command_names, deployment_in

BIN = Path(sys.executable).parent


@pytest.fixture(scope="module")
def plants(tmp_path_factory: pytest.TempPathFactory) -> Deployment:
    return deployment_in(tmp_path_factory.mktemp("made") / "plants")


def options(command: list[str]) -> dict[str, str | None]:
    """Options with their values; None for a flag."""
    found: dict[str, str | None] = {}
    for word, following in zip(command[1:], [*command[2:], "--"], strict=True):
        if word.startswith("--"):
            found[word] = None if following.startswith("--") else following
    return found


def test_only_the_fleet_port_listens_beyond_this_machine(plants: Deployment) -> None:
    command = commands.superlink(plants)
    assert command[0] == str(BIN / "flower-superlink")
    assert options(command) == {
        "--ssl-ca-certfile": str(plants.ca),
        "--ssl-certfile": str(plants.server_certificate),
        "--ssl-keyfile": str(plants.server_key),
        "--enable-supernode-auth": None,
        "--disable-runtime-dependency-installation": None,
        "--fleet-api-address": "0.0.0.0:9092",
        "--host": "127.0.0.1",
        "--port": "9093",
        "--database": str(plants.database),
    }


def test_a_node_trusts_the_kits_authority_and_shows_its_key(plants: Deployment) -> None:
    kit = plants.kits / "north"
    connection = read_site_file(kit / "site.yaml").connection
    assert connection is not None
    command = commands.supernode(kit / "site.yaml", connection)
    assert command[0] == str(BIN / "flower-supernode")
    expected = {
        "--root-certificates": str(kit / "ca.crt"),
        "--superlink": "owner.example.org:9092",
        "--auth-supernode-private-key": str(kit / "node_key"),
        "--host": "127.0.0.1",
        "--port": "9094",
        "--node-config": f'site-config="{kit / "site.yaml"}"',
    }
    assert options(command) == expected
    signed = connection.model_copy(update={"trusted_apps": Path("/etc/keys.yaml")})
    assert options(commands.supernode(kit / "site.yaml", signed)) == expected | {"--trusted-entities": "/etc/keys.yaml"}
    with pytest.raises(DeploymentError, match="a quote"):
        commands.supernode(Path('/srv/"x"/site.yaml'), connection)


def test_flower_knows_all_these_options(plants: Deployment) -> None:
    kit = plants.kits / "north"
    connection = read_site_file(kit / "site.yaml").connection
    assert connection is not None
    for command in (commands.superlink(plants), commands.supernode(kit / "site.yaml", connection)):
        shown = subprocess.run([command[0], "--help"], capture_output=True, text=True, check=True, timeout=300).stdout
        assert all(option in shown for option in options(command))


def test_nothing_goes_without_tls_and_nothing_phones_home(plants: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLWR_TELEMETRY_ENABLED", "1")
    environment = commands.environment(plants.flower_home)
    assert QUIET.items() <= environment.items()
    assert environment["FLWR_HOME"] == str(plants.flower_home)
    assert environment["PATH"].split(":")[0] == str(BIN)
    code = "".join(p.read_text() for p in Path(str(files("deploy"))).rglob("*.py") if p.name != "commands.py")
    assert "--insecure" not in code


@pytest.mark.parametrize(
    ("host", "expected"), [("a.example.org", "a.example.org:9"), ("192.0.2.7", "192.0.2.7:9"), ("::1", "[::1]:9")]
)
def test_addresses(host: str, expected: str) -> None:
    assert address(host, 9) == expected


def check_ours(words: list[str]) -> None:
    """That a command line starts one of our programs with a command that it has."""
    program = Path(words[0]).name
    assert words[1] in command_names({"socket-owner": owner_app, "socket-site": site_app}[program])


@pytest.mark.parametrize("which", ["owner", "site"])
def test_units_parse_and_start_what_exists(plants: Deployment, tmp_path: Path, which: str) -> None:
    kit = plants.kits / "north"
    text = owner_unit(plants.folder) if which == "owner" else site_unit(kit / "site.yaml")
    unit = configparser.ConfigParser(strict=True, interpolation=None)
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read_string(text)
    words = shlex.split(unit["Service"]["ExecStart"])
    assert Path(words[0]).is_file()
    check_ours(words)
    assert words[2] == str(plants.folder if which == "owner" else kit / "site.yaml")
    assert unit["Service"]["Restart"] == "always"
    assert unit["Service"]["User"] == plants.folder.owner()
    assert unit["Service"]["WorkingDirectory"] == str(plants.folder if which == "owner" else kit)
    assert unit["Install"]["WantedBy"] == "multi-user.target"
    if (verify := shutil.which("systemd-analyze")) is not None:  # says more, where there is systemd
        path = tmp_path / f"socket-{which}.service"
        path.write_text(text)
        done = subprocess.run([verify, "verify", str(path)], capture_output=True, text=True, timeout=120, check=False)
        assert (done.returncode, done.stderr) == (0, "")


def test_a_path_that_systemd_would_read_otherwise_is_refused(tmp_path: Path) -> None:
    made = deployment_in(tmp_path / "100%")
    with pytest.raises(DeploymentError, match="means something else in a unit file"):
        owner_unit(made.folder)


@pytest.mark.parametrize(("which", "name"), [("owner", "compose.yaml"), ("site", "kits/north/compose.yaml")])
def test_compose_files_parse_and_start_what_exists(plants: Deployment, which: str, name: str) -> None:
    text = (plants.folder / name).read_text()
    service = yaml.safe_load(text)["services"][which]
    check_ours(service["command"])
    assert service["restart"] == "unless-stopped"
    assert service["user"] == "${UID:-1000}:${GID:-1000}"
    assert service.get("ports", []) == (["9092:9092"] if which == "owner" else [])
