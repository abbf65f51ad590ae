"""A certificate authority, certificates with any fault, and a TLS server in a thread."""

from __future__ import annotations

import ipaddress
import socket
import ssl
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives import serialization as ser
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from client.doctor_network import Server

NOW = datetime.now(UTC)
DAY = timedelta(days=1)


@dataclass(frozen=True)
class Authority:
    """Issues certificates.

    Attributes:
        pem: Its own certificate.
    """

    folder: Path
    pem: Path
    key: ec.EllipticCurvePrivateKey
    name: x509.Name

    @classmethod
    def make(cls, folder: Path, name: str = "ca") -> Authority:
        """A new one that signs itself."""
        folder.mkdir(parents=True, exist_ok=True)
        key, subject = ec.generate_private_key(ec.SECP256R1()), _name(name)
        constraint = x509.BasicConstraints(ca=True, path_length=None)
        made = _builder(subject, subject, key, NOW - DAY, NOW + 400 * DAY).add_extension(constraint, critical=True)
        pem = folder / f"{name}.pem"
        pem.write_bytes(made.sign(key, hashes.SHA256()).public_bytes(ser.Encoding.PEM))
        return cls(folder, pem, key, subject)

    def issue(
        self,
        *,
        names: Sequence[str] = ("localhost",),
        addresses: Sequence[str] = ("127.0.0.1",),
        begin: datetime = NOW - DAY,
        end: datetime = NOW + 300 * DAY,
    ) -> Path:
        """A server certificate and its key in one file."""
        key = ec.generate_private_key(ec.SECP256R1())
        builder = _builder(_name("server"), self.name, key, begin, end)
        alternatives: list[x509.GeneralName] = [
            *(x509.DNSName(name) for name in names),
            *(x509.IPAddress(ipaddress.ip_address(a)) for a in addresses),
        ]
        if alternatives:
            builder = builder.add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        path = self.folder / "server.pem"
        private = key.private_bytes(ser.Encoding.PEM, ser.PrivateFormat.PKCS8, ser.NoEncryption())
        path.write_bytes(builder.sign(self.key, hashes.SHA256()).public_bytes(ser.Encoding.PEM) + private)
        return path


def certificate(path: Path) -> x509.Certificate:
    """The first certificate of a file."""
    return x509.load_pem_x509_certificates(path.read_bytes())[0]


@contextmanager
def serving(pem: Path | None, *, protocols: Sequence[str] = ("h2",)) -> Iterator[Server]:
    """A server on 127.0.0.1 that greets and closes: over TLS with this certificate, or plain without one."""
    context = None
    if pem is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(pem)
        context.set_alpn_protocols(list(protocols))
    listener = socket.create_server(("127.0.0.1", 0))
    thread = threading.Thread(target=_serve, args=(listener, context), daemon=True)
    thread.start()
    try:
        yield Server("127.0.0.1", listener.getsockname()[1])
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(10)


def _serve(listener: socket.socket, context: ssl.SSLContext | None) -> None:
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:
            return
        try:
            if context is None:
                connection.sendall(b"HTTP/1.0 400 Bad Request\r\n\r\n")
                connection.recv(4096)
            else:
                connection = context.wrap_socket(connection, server_side=True)
        except OSError:
            pass  # the client has seen enough
        finally:
            connection.close()


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, begin: datetime, end: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(end)
    )
