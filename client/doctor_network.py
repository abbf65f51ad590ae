"""The way to the owner's server, step by step: name, port, TLS, certificate. Nothing is sent but a TLS greeting."""

from __future__ import annotations

import ipaddress
import socket
import ssl
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path

from cryptography import x509
from cryptography.x509.oid import ExtensionOID

from socket_core.checks import Check, Examination, failed, ok, warning
from socket_core.errors import ConfigError, FederationError

SECONDS = 5.0
"""How long each step waits."""

SOON = timedelta(days=30)
RENEW = "at the owner: socket-owner renew-certificate DIR, then restart socket-owner serve"
_CODE = FederationError.exit_code


@dataclass(frozen=True)
class Server:
    """Host and port of the Fleet API."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> Server:
        """From ``HOST:PORT``, an IPv6 address in brackets.

        Raises:
            ConfigError: If it is not written so.
        """
        host, _, port = text.rpartition(":")
        bare = host.removeprefix("[").removesuffix("]")
        if not bare or not port.isdecimal() or not 0 < int(port) < 65_536 or (":" in bare and bare == host):
            raise ConfigError(
                f"expected HOST:PORT, found {text!r}", where="--server", remedy="for example owner.example:9092"
            )
        return cls(bare, int(port))

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


def examine_network(found: Examination, server: Server, ca: Path | None, now: datetime) -> None:
    """Adds DNS, TCP, TLS, certificate dates, certificate name and certificate authority, in this order."""
    certificates: list[x509.Certificate] = []
    found.run("DNS", partial(check_dns, server))
    found.run("TCP", partial(check_tcp, server), after=["DNS"])
    found.run("TLS", partial(check_tls, server, certificates), after=["TCP"])
    found.run("certificate dates", lambda: check_dates(certificates[0], now), after=["TLS"])
    found.run("certificate name", lambda: check_name(certificates[0], server.host), after=["TLS"])
    if ca is None:
        found.checks.append(Check("certificate authority", "skipped", "no --ca given", "give ca.crt of the start kit"))
    else:
        found.run("certificate authority", partial(check_authority, server, ca), after=["TLS", "certificate dates"])


def check_dns(server: Server) -> Check:
    """Whether the name has an address."""
    try:
        found = socket.getaddrinfo(server.host, server.port, type=socket.SOCK_STREAM)
    except (socket.gaierror, UnicodeError):
        return failed(
            "DNS",
            f"no address for {server.host}",
            "correct connection.superlink in site.yaml (or --server), or ask who runs the network",
            _CODE,
        )
    return ok("DNS", f"{server.host} is {', '.join(dict.fromkeys(str(entry[4][0]) for entry in found))}")


def check_tcp(server: Server) -> Check:
    """Whether something listens."""
    try:
        with socket.create_connection((server.host, server.port), timeout=SECONDS):
            return ok("TCP", f"{server} listens")
    except TimeoutError:
        return failed(
            "TCP",
            f"no answer from {server} in {SECONDS:g} s",
            "let firewalls pass this port, here outwards and at the owner inwards",
            _CODE,
        )
    except OSError as error:
        remedy = "ask the owner whether socket-owner serve runs (there: socket-owner doctor DIR), or correct the port"
        return failed("TCP", f"{server}: {error.strerror or type(error).__name__}", remedy, _CODE)


def check_tls(server: Server, certificates: list[x509.Certificate]) -> Check:
    """Whether it speaks TLS and HTTP/2, whoever it is; its certificate is put into ``certificates``."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # who it is, is looked at below
    try:
        version, protocol, raw = _greet(server, context)
    except (ssl.SSLError, TimeoutError, OSError):
        remedy = "give the port that sites use; at the owner, socket-owner serve DIR starts the SuperLink with TLS"
        return failed("TLS", f"{server} does not speak TLS", remedy, _CODE)
    certificates.append(x509.load_der_x509_certificate(raw))
    if protocol != "h2":
        return warning("TLS", f"{version}, but no HTTP/2", "give the port of the Fleet API: gRPC needs HTTP/2")
    return ok("TLS", f"{version}, HTTP/2")


def check_dates(certificate: x509.Certificate, now: datetime) -> Check:
    """Whether the certificate is valid now, and for a while."""
    name, begin, end = "certificate dates", certificate.not_valid_before_utc, certificate.not_valid_after_utc
    said = f"{begin:%Y-%m-%d} to {end:%Y-%m-%d}"
    if now < begin:
        return failed(name, f"{said}, not valid yet", "the clock here or the owner's is wrong: compare both", _CODE)
    if now > end:
        return failed(name, f"{said}, expired", f"{RENEW}, unless this clock is wrong", _CODE)
    if end - now < SOON:
        return warning(name, f"{said}, {(end - now).days} days left", f"{RENEW}, in time")
    return ok(name, said)


def check_name(certificate: x509.Certificate, host: str) -> Check:
    """Whether the certificate is for this host (subjectAltName; nothing else counts)."""
    name = "certificate name"
    try:
        value = certificate.extensions.get_extension_for_oid(ExtensionOID.SUBJECT_ALTERNATIVE_NAME).value
    except x509.ExtensionNotFound:
        value = x509.SubjectAlternativeName([])
    assert isinstance(value, x509.SubjectAlternativeName)
    names, addresses = value.get_values_for_type(x509.DNSName), value.get_values_for_type(x509.IPAddress)
    try:
        fits = ipaddress.ip_address(host) in addresses
    except ValueError:
        fits = any(_matches(pattern, host) for pattern in names)
    listed = ", ".join([*names, *map(str, addresses)]) or "no name at all"
    if fits:
        return ok(name, f"for {listed}")
    remedy = f"connect to one of these; or at the owner: host: {host} in deployment.yaml, then renew-certificate"
    return failed(name, f"for {listed}, not for {host}", remedy, _CODE)


def check_authority(server: Server, ca: Path) -> Check:
    """Whether the owner's certificate authority signed it."""
    name = "certificate authority"
    try:
        context = ssl.create_default_context(cafile=str(ca))
    except (ssl.SSLError, OSError):
        return failed(name, f"{ca} is not a certificate", "take ca.crt from the start kit again", ConfigError.exit_code)
    context.check_hostname = False  # has a line of its own
    try:
        _greet(server, context)
    except ssl.SSLCertVerificationError as error:
        said = f"not signed by {ca.name} ({error.verify_message})"
        return failed(
            name,
            said,
            "ask the owner for the kit in use now; if this is it, somebody else answers: do not go on",
            _CODE,
        )
    return ok(name, f"signed by {ca.name}")


def _greet(server: Server, context: ssl.SSLContext) -> tuple[str, str | None, bytes]:
    """TLS version, protocol and certificate of the server."""
    context.set_alpn_protocols(["h2"])
    address = (server.host, server.port)
    with (
        socket.create_connection(address, timeout=SECONDS) as plain,
        context.wrap_socket(plain, server_hostname=server.host) as tls,
    ):
        return tls.version() or "TLS", tls.selected_alpn_protocol(), tls.getpeercert(binary_form=True) or b""


def _matches(pattern: str, host: str) -> bool:
    """Whether a name of a certificate, perhaps with ``*`` as its first label, is this host's."""
    want, have = pattern.lower().split("."), host.lower().rstrip(".").split(".")
    return want == have or (want[0] == "*" and len(have) > 2 and want[1:] == have[1:])
