"""``socket-owner doctor`` of a deployment folder: certificates, private keys, ports, and which sites are there."""

from __future__ import annotations

import ssl
from dataclasses import replace
from functools import partial
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from client.doctor_network import check_name
from deploy import nodes
from deploy.layout import Deployment, open_deployment
from deploy.owner_service import WARN_DAYS, answers, here, read_kept
from deploy.pki import check_validity
from deploy.serve import check_port
from server.doctor import examine as examine_owner
from socket_core.checks import Check, Examination, failed, ok, warning
from socket_core.checks_machine import check_private
from socket_core.errors import DeploymentError

SECONDS = 5.0
"""How long the SuperLink may take for a greeting."""

_CODE = DeploymentError.exit_code


def examine(folder: Path, *, config: Path | None = None, data: str = "") -> Examination:
    """Looks at everything that an owner has (:func:`server.doctor.examine`) and at the deployment about it.

    Args:
        folder: Of the deployment.
        config: An experiment.
        data: Folder of images, in place of the experiment's.
    """
    opened: list[Deployment] = []

    def read() -> Check:
        opened.append(open_deployment(folder))
        return ok("deployment", f"{opened[0].file.name}: {len(opened[0].file.sites)} sites, {opened[0].fleet}")

    first = Examination()
    first.run("deployment", read)
    found = examine_owner(opened[0].home if opened else None, config=config, data=data)
    found.checks += first.checks
    for deployment in opened:
        renew = f"socket-owner renew-certificate {deployment.folder}, then restart socket-owner serve"
        found.run("certificate dates", partial(check_dates, deployment.server_certificate, "certificate dates", renew))
        found.run("certificate name", partial(check_host_name, deployment), after=["certificate dates"])
        found.run("certificate authority", partial(check_issued, deployment, renew), after=["certificate dates"])
        found.run("deployment keys", partial(check_keys, deployment))
        found.run("ports", partial(check_ports, deployment))
        found.run("SuperLink", partial(check_superlink, deployment), after=["certificate dates", "ports"])
        found.run("sites", partial(check_sites, deployment), after=["ports"])
    return found


def check_dates(path: Path, name: str, renew: str) -> Check:
    """Whether a certificate is valid now, and for a while.

    Raises:
        DeploymentError: If it is not, or cannot be read.
    """
    days = check_validity(read_kept(path), where=str(path))
    return ok(name, f"{days} days left") if days >= WARN_DAYS else warning(name, f"{days} days left", renew)


def check_host_name(deployment: Deployment) -> Check:
    """Whether the server certificate lists the host that sites connect to."""
    certificate = x509.load_pem_x509_certificate(read_kept(deployment.server_certificate))
    return replace(check_name(certificate, deployment.file.host), exit_code=_CODE)


def check_issued(deployment: Deployment, renew: str) -> Check:
    """Whether the deployment's authority, which kits name, signed the server certificate, and its own dates.

    Raises:
        DeploymentError: If the authority's certificate has ended or cannot be read.
    """
    name = "certificate authority"
    dates = check_dates(deployment.ca, name, "make a new deployment in time, and give each site its new kit")
    authority = x509.load_pem_x509_certificate(read_kept(deployment.ca))
    certificate = x509.load_pem_x509_certificate(read_kept(deployment.server_certificate))
    try:
        certificate.verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature):
        return failed(name, "ca.crt did not sign server.crt: sites will refuse it", renew, _CODE)
    if certificate.public_key() != load_pem_private_key(read_kept(deployment.server_key), None).public_key():
        return failed(name, "server.key is not the key of server.crt", renew, _CODE)
    return replace(dates, found=f"signed by ca.crt, which has {dates.found}")


def check_keys(deployment: Deployment) -> Check:
    """Whether others can read private keys: of the server, and of authority and kits where they still lie here."""
    kits = sorted(deployment.kits.glob("*/node_key")) + sorted(deployment.kits.glob("*.tar.gz"))
    files = [path for path in (deployment.ca_key, *kits) if path.exists()]
    absent = f"socket-owner renew-certificate {deployment.folder}"
    return check_private([deployment.server_key, *files], "deployment keys", absent)


def check_ports(deployment: Deployment) -> Check:
    """Whether both ports are listened on, or both can be.

    Raises:
        DeploymentError: If one is taken, or cannot be had.
    """
    file = deployment.file
    said = f"{file.port} for sites, {file.control_port} on loopback"
    if answers(deployment):
        return ok("ports", f"{said}: both are listened on")
    check_port(file.bind, file.port, "port")
    check_port("127.0.0.1", file.control_port, "control_port")
    return ok("ports", f"{said}: both are free")


def check_superlink(deployment: Deployment) -> Check:
    """Whether it is the SuperLink of this deployment that listens, with the certificate that lies here."""
    name, serve = "SuperLink", f"socket-owner serve {deployment.folder}"
    if not answers(deployment):
        return warning(name, "does not run", serve)
    try:
        shown = ssl.get_server_certificate((here(deployment), deployment.file.port), timeout=SECONDS)
    except OSError:
        remedy = f"end it, or change port in deployment.yaml; then {serve}"
        return failed(name, f"another program listens on port {deployment.file.port}", remedy, _CODE)
    if ssl.PEM_cert_to_DER_cert(shown) != ssl.PEM_cert_to_DER_cert(read_kept(deployment.server_certificate).decode()):
        return warning(name, "runs, but shows another certificate than server.crt", f"restart {serve}")
    return ok(name, "runs, with the certificate that lies here")


def check_sites(deployment: Deployment) -> Check:
    """Which sites the SuperLink lets in, and which of them are connected.

    Raises:
        DeploymentError: If the SuperLink does not answer.
    """
    if not answers(deployment):
        return Check("sites", "skipped", "only a running SuperLink knows which are registered and online")
    states = nodes.states(deployment)
    words = {"": "not registered", "registered": "registered, never online"}
    said = "; ".join(f"{site} {words.get(state, state)}" for site, state in states.items())
    if not all(states.values()):
        remedy = f"restart socket-owner serve {deployment.folder}: it registers the keys in nodes/"
        return failed("sites", said, remedy, _CODE)
    if set(states.values()) != {"online"}:
        return warning("sites", said, "at each site that is not online: socket-site doctor site.yaml")
    return ok("sites", said)
