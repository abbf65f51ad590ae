"""Each step to the server against a real one on this machine: name, port, TLS, dates, name and authority."""

from __future__ import annotations

import socket
from datetime import timedelta
from pathlib import Path

import pytest

from client.doctor_network import (
    Server,
    check_authority,
    check_dates,
    check_dns,
    check_name,
    check_tcp,
    check_tls,
    examine_network,
)
from socket_core.checks import Examination
from socket_core.errors import ConfigError
from tests.client.tls_builders import DAY, NOW, Authority, certificate, serving


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """The owner's."""
    return Authority.make(tmp_path_factory.mktemp("owner"))


def _states(server: Server, ca: Path | None) -> dict[str, str]:
    found = Examination()
    examine_network(found, server, ca, NOW)
    return {check.name: check.state for check in found.checks}


def test_a_sound_server_passes_every_step(authority: Authority) -> None:
    with serving(authority.issue()) as server:
        states = _states(server, authority.pem)
    assert states == dict.fromkeys(
        ["DNS", "TCP", "TLS", "certificate dates", "certificate name", "certificate authority"], "ok"
    )


def test_without_a_ca_the_authority_is_left_out(authority: Authority) -> None:
    with serving(authority.issue()) as server:
        assert _states(server, None)["certificate authority"] == "skipped"


def test_plain_tcp_fails_at_tls_and_the_rest_is_skipped(authority: Authority) -> None:
    with serving(None) as server:
        states = _states(server, authority.pem)
    assert list(states.values()) == ["ok", "ok", "failed", "skipped", "skipped", "skipped"]


def test_an_expired_certificate_is_told_from_a_foreign_one(authority: Authority) -> None:
    with serving(authority.issue(begin=NOW - 9 * DAY, end=NOW - DAY)) as server:
        states = _states(server, authority.pem)
    assert list(states.values()) == ["ok", "ok", "ok", "failed", "ok", "skipped"]


def test_a_certificate_for_another_host_fails_by_its_name_alone(authority: Authority) -> None:
    with serving(authority.issue(names=["other.example"], addresses=[])) as server:
        states = _states(server, authority.pem)
    assert list(states.values()) == ["ok", "ok", "ok", "ok", "failed", "ok"]


def test_another_authority_is_refused(authority: Authority, tmp_path: Path) -> None:
    stranger = Authority.make(tmp_path / "stranger", "stranger")
    with serving(stranger.issue()) as server:
        check = check_authority(server, authority.pem)
        assert check_authority(server, stranger.pem).state == "ok"
        (tmp_path / "ca.pem").write_text("no certificate")
        unreadable = check_authority(server, tmp_path / "ca.pem")
    assert (check.state, check.exit_code) == ("failed", 6)
    assert "not signed by ca.pem" in check.found
    assert (unreadable.state, unreadable.exit_code) == ("failed", 2)


def test_a_name_without_address_and_a_closed_port() -> None:
    unknown = check_dns(Server("no-such-host.invalid", 9092))
    assert (unknown.state, unknown.exit_code) == ("failed", 6)
    assert check_dns(Server("127.0.0.1", 9092)).found == "127.0.0.1 is 127.0.0.1"
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    closed = check_tcp(Server("127.0.0.1", port))
    assert closed.state == "failed"
    assert "refused" in closed.found


def test_tls_without_http2_is_another_port_than_grpcs(authority: Authority) -> None:
    with serving(authority.issue(), protocols=["http/1.1"]) as server:
        check = check_tls(server, [])
    assert check.state == "warning"
    assert "HTTP/2" in check.found


@pytest.mark.parametrize(
    ("begin", "end", "state"),
    [(-10, 300, "ok"), (-10, 29, "warning"), (-10, -1, "failed"), (1, 300, "failed")],
)
def test_dates_are_looked_at_now_and_a_month_ahead(authority: Authority, begin: int, end: int, state: str) -> None:
    made = authority.issue(begin=NOW + timedelta(days=begin), end=NOW + timedelta(days=end))
    check = check_dates(certificate(made), NOW)
    assert check.state == state
    assert ("clock" in check.remedy) == (state == "failed")


@pytest.mark.parametrize(
    ("names", "addresses", "host", "state"),
    [
        (["owner.example"], [], "Owner.Example", "ok"),
        (["owner.example"], [], "owner.example.", "ok"),
        (["*.owner.example"], [], "fleet.owner.example", "ok"),
        (["*.owner.example"], [], "owner.example", "failed"),
        (["*.owner.example"], [], "a.b.owner.example", "failed"),
        (["*.example"], [], "example", "failed"),
        ([], ["10.0.0.5"], "10.0.0.5", "ok"),
        (["10.0.0.5"], [], "10.0.0.5", "failed"),
        ([], ["::1"], "::1", "ok"),
        ([], [], "server", "failed"),
    ],
)
def test_only_a_subject_alternative_name_counts(
    authority: Authority, names: list[str], addresses: list[str], host: str, state: str
) -> None:
    check = check_name(certificate(authority.issue(names=names, addresses=addresses)), host)
    assert check.state == state
    assert (host in check.remedy) == (state == "failed")


@pytest.mark.parametrize("text", ["owner", "owner:", ":9092", "owner:0", "owner:65536", "owner:ninety", "::1:9092"])
def test_a_server_is_host_and_port(text: str) -> None:
    with pytest.raises(ConfigError, match="expected HOST:PORT"):
        Server.parse(text)


def test_an_ipv6_address_is_written_in_brackets() -> None:
    assert Server.parse("[::1]:9092") == Server("::1", 9092)
    assert Server.parse("owner.example:9092") == Server("owner.example", 9092)
