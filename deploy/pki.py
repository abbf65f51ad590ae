"""Certificates for TLS towards the SuperLink, and the nodes' keys.

One certificate authority of the deployment's own signs one server certificate; sites trust that authority and
nobody else. Nodes prove themselves with elliptic-curve keys, which Flower wants in OpenSSH's format.
"""

from __future__ import annotations

import datetime
import ipaddress
from dataclasses import dataclass, field

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives import serialization as ser
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from socket_core.errors import DeploymentError

CA_DAYS = 3650
SLACK = datetime.timedelta(hours=1)
"""Certificates begin this long before now: clocks of two machines differ."""


@dataclass(frozen=True)
class Issued:
    """A certificate and its private key, both PEM; the key is PKCS8 and not encrypted."""

    certificate: bytes
    key: bytes = field(repr=False)


def create_authority(name: str, *, days: int = CA_DAYS, now: datetime.datetime | None = None) -> Issued:
    """A certificate authority that can sign server certificates and no further authority.

    Args:
        name: Of the deployment, for people who look at the certificate.
        days: How long it is valid.
        now: When it begins; timezone-aware.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"socket-fl authority of {name}"[:64])])
    usage = x509.KeyUsage(
        digital_signature=False,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=True,
        crl_sign=True,
        encipher_only=False,
        decipher_only=False,
    )
    built = (
        _builder(subject, subject, key, days, now or _now())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    return Issued(built.public_bytes(ser.Encoding.PEM), _pem(key))


def issue_server(authority: Issued, host: str, *, days: int, now: datetime.datetime | None = None) -> Issued:
    """A server certificate for ``host``, signed by ``authority``, that never outlives it.

    The alternative names hold the host, as an address if it is one, and this machine's loopback, over which the
    owner's own commands come.

    Args:
        authority: From :func:`create_authority`.
        host: Name or IP address under which sites reach the SuperLink.
        days: How long it is valid.
        now: When it begins; timezone-aware.

    Raises:
        DeploymentError: If the authority has ended.
    """
    now = now or _now()
    ca = x509.load_pem_x509_certificate(authority.certificate)
    if now >= ca.not_valid_after_utc:
        raise DeploymentError(
            f"the certificate authority ended on {ca.not_valid_after_utc:%Y-%m-%d}",
            where="ca.crt",
            remedy="make a new deployment with socket-owner init-deployment, and give each site its new kit",
        )
    signer = ser.load_pem_private_key(authority.key, password=None)
    assert isinstance(signer, ec.EllipticCurvePrivateKey)
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host[:64])])
    identifier = x509.SubjectKeyIdentifier.from_public_key(signer.public_key())
    built = (
        _builder(subject, ca.subject, key, days, now, latest=ca.not_valid_after_utc)
        .add_extension(x509.SubjectAlternativeName(alternative_names(host)), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier), critical=False)
        .sign(signer, hashes.SHA256())
    )
    return Issued(built.public_bytes(ser.Encoding.PEM), _pem(key))


def alternative_names(host: str) -> list[x509.GeneralName]:
    """Under which names a server certificate counts: the host and loopback, each once.

    Raises:
        DeploymentError: If ``host`` is neither an address nor a name in ASCII.
    """
    loopback = ipaddress.ip_address("127.0.0.1")
    names: list[x509.GeneralName] = []
    try:
        names.append(x509.IPAddress(ipaddress.ip_address(host)))
    except ValueError:
        try:
            names.append(x509.DNSName(host))
        except ValueError:
            raise DeploymentError(
                f"{host!r} cannot stand in a certificate",
                where="--host",
                remedy="give a name in ASCII (punycode) or an address",
            ) from None
    names += [n for n in (x509.DNSName("localhost"), x509.IPAddress(loopback)) if n not in names]
    return names


def create_node_key() -> tuple[bytes, bytes]:
    """A node's private and public key on NIST P-384, in OpenSSH's format."""
    key = ec.generate_private_key(ec.SECP384R1())
    private = key.private_bytes(ser.Encoding.PEM, ser.PrivateFormat.OpenSSH, ser.NoEncryption())
    public = key.public_key().public_bytes(ser.Encoding.OpenSSH, ser.PublicFormat.OpenSSH)
    return private, public + b"\n"


def check_validity(certificate: bytes, *, where: str, now: datetime.datetime | None = None) -> int:
    """Whole days that a certificate still lasts.

    Raises:
        DeploymentError: If it has ended, has not begun (mostly a wrong clock), or is no certificate.
    """
    now = now or _now()
    try:
        parsed = x509.load_pem_x509_certificate(certificate)
    except ValueError:
        raise DeploymentError(
            "expected a certificate in PEM form", where=where, remedy="unpack the kit again"
        ) from None
    if now < parsed.not_valid_before_utc:
        raise DeploymentError(
            f"this machine's clock says {now:%Y-%m-%d %H:%M} UTC, before the certificate begins "
            f"({parsed.not_valid_before_utc:%Y-%m-%d %H:%M})",
            where=where,
            remedy="set the clock",
        )
    if now >= parsed.not_valid_after_utc:
        raise DeploymentError(
            f"the certificate ended on {parsed.not_valid_after_utc:%Y-%m-%d}",
            where=where,
            remedy="at the owner: socket-owner renew-certificate DIR; if it is ca.crt that ended, a new deployment",
        )
    return (parsed.not_valid_after_utc - now).days


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    days: int,
    now: datetime.datetime,
    latest: datetime.datetime | None = None,
) -> x509.CertificateBuilder:
    end = now + datetime.timedelta(days=days)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - SLACK)
        .not_valid_after(min(end, latest) if latest is not None else end)
    )


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(ser.Encoding.PEM, ser.PrivateFormat.PKCS8, ser.NoEncryption())


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)
