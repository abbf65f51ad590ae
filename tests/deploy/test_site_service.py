"""What a site checks before it starts, in sentences; and what it can say about its connection."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from client.site_file import read_site_file
from deploy.layout import Deployment
from deploy.pki import create_authority
from deploy.probe import Probing, reach
from deploy.serve import check_port, only_one
from deploy.site_service import SiteLine, connection_of, preflight, redactor, serve_site
from socket_core.errors import ConfigError, DeploymentError, SocketError
from tests.client.tls_builders import DAY, NOW, Authority, serving
from tests.deploy.builders import deployment_in


@pytest.fixture
def plants(tmp_path: Path) -> Deployment:
    return deployment_in(tmp_path / "plants", host="127.0.0.1")


@pytest.fixture
def kit(plants: Deployment) -> Path:
    return plants.kits / "north"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def warnings_of(kit: Path) -> list[str]:
    file = read_site_file(kit / "site.yaml")
    connection = connection_of(file, kit / "site.yaml").model_copy(update={"runtime_port": free_port()})
    return preflight(file, connection)


def test_a_fresh_kit_is_ready_but_for_its_images(kit: Path) -> None:
    assert warnings_of(kit) == ["tr, ti_rgb, ti_target: no such folder yet; rounds are declined until it is there"]
    for name in ("task", "pairs/rgb", "pairs/target"):
        (kit / "images" / name).mkdir(parents=True)
    assert warnings_of(kit) == []


def test_a_damaged_kit_is_named(kit: Path) -> None:
    def refused(message: str) -> None:
        with pytest.raises(SocketError, match=message):
            warnings_of(kit)

    (kit / "node_key").chmod(0o640)
    refused(r"group or others can access this private key \(mode 0640\)\n.*chmod 600")
    (kit / "node_key").unlink()
    refused("the node key cannot be read")
    (kit / "owner.pub.pem").write_text("nonsense")
    refused("expected a public key in PEM form")


def test_a_site_file_without_a_connection_is_sent_to_its_kit(kit: Path) -> None:
    raw = yaml.safe_load((kit / "site.yaml").read_text())
    del raw["connection"]
    (kit / "site.yaml").write_text(yaml.safe_dump(raw))
    with pytest.raises(ConfigError, match=r"no section 'connection'\n.*start kit"):
        serve_site(kit / "site.yaml")


def test_a_taken_port_is_named() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(DeploymentError, match=f"connection.runtime_port: port {port} cannot be used"):
            check_port("127.0.0.1", port, "connection.runtime_port")
    check_port("127.0.0.1", port, "connection.runtime_port")


def test_one_folder_is_served_once(tmp_path: Path) -> None:
    with (
        only_one(tmp_path / "lock", "socket-site serve"),
        pytest.raises(DeploymentError, match=r"socket-site serve is running already \(process \d+\)"),
        only_one(tmp_path / "lock", "socket-site serve"),
    ):
        pass
    with only_one(tmp_path / "lock", "socket-site serve"):
        pass


def test_the_log_names_what_it_does_not_show(kit: Path) -> None:
    file = read_site_file(kit / "site.yaml")
    redact = redactor(file, connection_of(file, kit / "site.yaml"))
    assert redact(f"{kit}/images/pairs/rgb/a.png: broken") == "<ti_rgb>: broken"
    assert redact(f"cannot open {kit}/node_key") == "cannot open <node_key>"


@contextmanager
def tls_server(deployment: Deployment) -> Iterator[int]:
    """Takes TLS connections as the SuperLink does; gives its port."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(deployment.server_certificate, deployment.server_key)
    context.set_alpn_protocols(["h2"])
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()

        def accept() -> None:
            while True:
                try:
                    plain, _ = listening.accept()
                    with plain, context.wrap_socket(plain, server_side=True):
                        pass
                except ssl.SSLError:
                    continue
                except OSError:
                    return

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        yield listening.getsockname()[1]
        listening.shutdown(socket.SHUT_RDWR)
        thread.join(10)


def test_the_probe_says_what_is_wrong(plants: Deployment, tmp_path: Path) -> None:
    other = tmp_path / "other.crt"
    other.write_bytes(create_authority("others").certificate)
    with tls_server(plants) as port:
        assert reach(f"127.0.0.1:{port}", plants.ca) == ""
        assert reach(f"localhost:{port}", plants.ca) == ""
        assert "is not the one of this kit" in reach(f"127.0.0.1:{port}", other)
    assert reach(f"127.0.0.1:{free_port()}", plants.ca).endswith("refuses connections: is the owner serving?")
    assert reach("no-such-host.invalid:1", plants.ca).startswith("the name no-such-host.invalid is not known here")


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"end": NOW - DAY / 2}, "has ended: the owner has to renew it"),
        ({"begin": NOW + DAY / 2}, "is not valid yet, by this machine's clock"),
        ({"names": ["other.example"], "addresses": []}, "is for another name"),
    ],
)
def test_the_probe_tells_a_wrong_date_or_name_from_a_foreign_certificate(
    tmp_path: Path, changes: dict[str, Any], sentence: str
) -> None:
    authority = Authority.make(tmp_path)
    with serving(authority.issue(**changes)) as server:
        assert sentence in reach(str(server), authority.pem)


def test_a_server_that_speaks_no_tls_is_said(plants: Deployment) -> None:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()

        def answer() -> None:
            plain, _ = listening.accept()
            with plain:
                plain.sendall(b"HTTP/1.1 400 no\r\n\r\n")
                plain.recv(4096)

        thread = threading.Thread(target=answer)
        thread.start()
        assert "does not speak TLS as expected" in reach(f"127.0.0.1:{listening.getsockname()[1]}", plants.ca)
        thread.join(10)


def test_the_line_tells_connecting_from_connected_from_cut_off() -> None:
    probing = Probing(lambda: "")
    line = SiteLine("owner:9092", probing)
    assert line.text() == "connecting to owner:9092"
    line.read("INFO :      Starting Flower SuperNode")
    assert not line.connected()
    line.read("INFO :      SuperNode ID: 123")
    assert line.connected()
    assert line.text() == "connected to owner:9092"
    probing.trouble = "owner:9092 refuses connections: is the owner serving?"
    assert line.text() == probing.trouble
