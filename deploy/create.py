"""``socket-owner init-deployment``: one folder with everything that an owner and its sites start from."""

from __future__ import annotations

import re
import secrets
import shutil
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from deploy.kit import Kit, fill, write_new
from deploy.layout import Deployment, DeploymentFile, check_host, write_file
from deploy.pki import CA_DAYS, Issued, create_authority, create_node_key, issue_server
from server.owner import ensure_keys
from socket_core.config_section import NAME
from socket_core.errors import DeploymentError
from socket_core.keys import load_private_key, load_public_key


def create_deployment(folder: Path, file: DeploymentFile, *, days: int) -> dict[str, str]:
    """Makes a deployment: authority, server certificate, node keys, owner's key pair, a kit for each site.

    All of it is built beside its place and renamed into it: either everything is there or nothing is.

    Args:
        folder: Must not exist, or be empty.
        file: What to write into ``deployment.yaml``.
        days: Validity of the server certificate; the authority lasts ten years, or this long if longer.

    Returns:
        Sha256 of each site's archive, to be told to its operator by another way than the archive.

    Raises:
        DeploymentError: If the folder holds something, or a name or address cannot be used.
        ReleaseError: If the owner's key pair in ``home`` is broken.
    """
    folder = folder.expanduser().resolve()
    check_host(file.host)
    check_sites(file.sites)
    if file.port == file.control_port:
        raise DeploymentError(
            f"both APIs on port {file.port}", where="--control-port", remedy="give two different ports"
        )
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise DeploymentError(
            "something is there, and nothing is overwritten",
            where=str(folder),
            remedy="give a new folder; move the old one away only if none of its sites is in use",
        )
    folder.parent.mkdir(parents=True, exist_ok=True)
    building = folder.with_name(f".{folder.name}.{secrets.token_hex(6)}")
    building.mkdir(mode=0o700)
    try:
        sums = _fill(Deployment(building, file), days)
        building.replace(folder)
    except BaseException:
        shutil.rmtree(building, ignore_errors=True)
        raise
    Deployment(folder, file).write_connection()
    return sums


def renew_certificate(deployment: Deployment, *, days: int) -> None:
    """Replaces the server certificate by a new one of the same authority: sites need nothing new.

    Raises:
        DeploymentError: If the authority has ended.
    """
    authority = Issued(deployment.ca.read_bytes(), deployment.ca_key.read_bytes())
    issued = issue_server(authority, deployment.file.host, days=days)
    for path, content, mode in (
        (deployment.server_key, issued.key, 0o600),
        (deployment.server_certificate, issued.certificate, 0o644),
    ):
        fresh = path.with_name(f".{path.name}.{secrets.token_hex(6)}")
        write_new(fresh, content, mode)
        fresh.replace(path)


def check_sites(sites: Sequence[str]) -> None:
    """Refuses site names that cannot be files' and table's names.

    Raises:
        DeploymentError: If there is none, one is met twice, or one is no plain word.
    """
    wrong = [name for name in sites if not re.fullmatch(NAME, name)]
    twice = [name for name in sites if list(sites).count(name) > 1]
    if wrong or twice or not sites:
        found = f"{wrong[0]!r} is no plain name" if wrong else f"{twice[0]!r} is there twice" if twice else "no site"
        raise DeploymentError(
            found, where="--sites", remedy="give names of letters, digits, '-', '_' and '.', for example north,south"
        )


def _fill(deployment: Deployment, days: int) -> dict[str, str]:
    authority = create_authority(deployment.file.name, days=max(CA_DAYS, days))
    server = issue_server(authority, deployment.file.host, days=days)
    private, public = ensure_keys(deployment.home)
    load_private_key(private)
    load_public_key(public)
    deployment.ca_key.parent.mkdir(mode=0o700)
    write_new(deployment.ca, authority.certificate, 0o644)
    write_new(deployment.ca_key, authority.key, 0o600)
    write_new(deployment.server_certificate, server.certificate, 0o644)
    write_new(deployment.server_key, server.key, 0o600)
    sums = {}
    deployment.kits.mkdir(mode=0o700)
    for site in deployment.file.sites:
        node_key, node_public = create_node_key()
        write_new(deployment.node_key(site), node_public, 0o644)
        kit = Kit(site, deployment.fleet, deployment.file.name, authority.certificate, public.read_bytes(), node_key)
        sums[site] = kit.write(deployment.kits)
    lines = "".join(f"{digest}  {site}.tar.gz\n" for site, digest in sums.items())
    write_new(deployment.kits / "SHA256SUMS", lines.encode(), 0o644)
    values = {"owner": deployment.file.name, "port": str(deployment.file.port), "version": version("socket-fl")}
    write_new(deployment.folder / "compose.yaml", fill("compose-owner.yaml", values), 0o644)
    write_file(deployment)
    return sums
