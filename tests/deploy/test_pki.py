"""Certificates: names, chain, expiry; node keys in the form that Flower reads."""

from __future__ import annotations

import datetime
import ipaddress

import pytest
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization as ser
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError

from deploy.pki import Issued, check_validity, create_authority, create_node_key, issue_server
from socket_core.errors import DeploymentError

NOW = datetime.datetime(2026, 3, 1, 12, tzinfo=datetime.UTC)
DAY = datetime.timedelta(days=1)


@pytest.fixture(scope="module")
def authority() -> Issued:
    return create_authority("plants", days=1000, now=NOW)


def verify(authority: Issued, issued: Issued, name: x509.GeneralName, when: datetime.datetime = NOW) -> None:
    """As a TLS client would."""
    store = Store([x509.load_pem_x509_certificate(authority.certificate)])
    verifier = PolicyBuilder().store(store).time(when).build_server_verifier(name)  # type: ignore[arg-type]
    verifier.verify(x509.load_pem_x509_certificate(issued.certificate), [])


def names_of(issued: Issued) -> list[object]:
    certificate = x509.load_pem_x509_certificate(issued.certificate)
    return [n.value for n in certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value]


def test_a_name_becomes_a_dns_name_and_an_address_an_address(authority: Issued) -> None:
    loopback = ipaddress.ip_address("127.0.0.1")
    assert names_of(issue_server(authority, "owner.example.org", days=9, now=NOW)) == [
        "owner.example.org",
        "localhost",
        loopback,
    ]
    address = ipaddress.ip_address("192.0.2.7")
    assert names_of(issue_server(authority, "192.0.2.7", days=9, now=NOW)) == [address, "localhost", loopback]
    assert names_of(issue_server(authority, "127.0.0.1", days=9, now=NOW)) == [loopback, "localhost"]
    assert names_of(issue_server(authority, "2001:db8::1", days=9, now=NOW))[0] == ipaddress.ip_address("2001:db8::1")


def test_the_chain_holds_for_its_names_and_for_no_other(authority: Issued) -> None:
    issued = issue_server(authority, "owner.example.org", days=9, now=NOW)
    verify(authority, issued, x509.DNSName("owner.example.org"))
    verify(authority, issued, x509.IPAddress(ipaddress.ip_address("127.0.0.1")))
    with pytest.raises(VerificationError):
        verify(authority, issued, x509.DNSName("other.example.org"))
    with pytest.raises(VerificationError):
        verify(create_authority("plants", days=1000, now=NOW), issued, x509.DNSName("owner.example.org"))


def test_the_signature_is_the_authoritys(authority: Issued) -> None:
    issued = x509.load_pem_x509_certificate(issue_server(authority, "a", days=9, now=NOW).certificate)
    issued.verify_directly_issued_by(x509.load_pem_x509_certificate(authority.certificate))
    with pytest.raises(InvalidSignature):
        issued.verify_directly_issued_by(
            x509.load_pem_x509_certificate(create_authority("plants", days=1000, now=NOW).certificate)
        )


def test_validity_is_as_asked_and_never_longer_than_the_authoritys(authority: Issued) -> None:
    issued = issue_server(authority, "a", days=9, now=NOW)
    parsed = x509.load_pem_x509_certificate(issued.certificate)
    assert parsed.not_valid_after_utc == NOW + 9 * DAY
    assert parsed.not_valid_before_utc == NOW - datetime.timedelta(hours=1)
    verify(authority, issued, x509.DNSName("localhost"), NOW + 8 * DAY)
    with pytest.raises(VerificationError):
        verify(authority, issued, x509.DNSName("localhost"), NOW + 10 * DAY)
    long = issue_server(authority, "a", days=3000, now=NOW)
    assert x509.load_pem_x509_certificate(long.certificate).not_valid_after_utc == NOW + 1000 * DAY
    with pytest.raises(DeploymentError, match="ended on 2028-11-25"):
        issue_server(authority, "a", days=1, now=NOW + 1000 * DAY)


def test_a_server_certificate_is_no_authority_and_a_servers_only(authority: Issued) -> None:
    parsed = x509.load_pem_x509_certificate(issue_server(authority, "a", days=9, now=NOW).certificate)
    assert not parsed.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    usage = parsed.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [ExtendedKeyUsageOID.SERVER_AUTH]
    root = x509.load_pem_x509_certificate(authority.certificate)
    constraints = root.extensions.get_extension_for_class(x509.BasicConstraints)
    assert (constraints.critical, constraints.value.ca, constraints.value.path_length) == (True, True, 0)


def test_the_key_belongs_to_the_certificate(authority: Issued) -> None:
    issued = issue_server(authority, "a", days=9, now=NOW)
    key = ser.load_pem_private_key(issued.key, password=None)
    assert key.public_key() == x509.load_pem_x509_certificate(issued.certificate).public_key()


def test_what_is_wrong_with_a_certificate_is_said(authority: Issued) -> None:
    issued = issue_server(authority, "a", days=9, now=NOW).certificate
    assert check_validity(issued, where="server.crt", now=NOW) == 9
    assert check_validity(issued, where="server.crt", now=NOW + 9 * DAY - datetime.timedelta(seconds=1)) == 0
    with pytest.raises(DeploymentError, match=r"server.crt: the certificate ended on 2026-03-10\n.*renew-certificate"):
        check_validity(issued, where="server.crt", now=NOW + 9 * DAY)
    with pytest.raises(DeploymentError, match=r"clock says 1970-01-01 00:00 UTC.*\n.*set the clock"):
        check_validity(issued, where="ca.crt", now=datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC))
    with pytest.raises(DeploymentError, match="expected a certificate in PEM form"):
        check_validity(b"nonsense", where="ca.crt", now=NOW)


def test_node_keys_are_p384_in_openssh_form() -> None:
    private, public = create_node_key()
    key, half = ser.load_ssh_private_key(private, password=None), ser.load_ssh_public_key(public)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    assert key.public_key() == half
    assert key.curve.name == "secp384r1"
    assert create_node_key()[0] != private
