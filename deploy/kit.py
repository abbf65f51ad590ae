"""A site's start kit: all that its operator needs, in a folder and in one archive with the same content."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import tarfile
from dataclasses import dataclass, field
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from string import Template

PRIVATE = ("node_key",)
"""Members that nobody but the site may read."""


@dataclass(frozen=True)
class Kit:
    """What goes into a kit.

    Attributes:
        site: Its name.
        superlink: Address of the Fleet API, host and port.
        owner: Name of the deployment.
        ca: Certificate of the authority, PEM.
        owner_key: The owner's public key that releases are signed with, PEM.
        node_key: The node's private key, OpenSSH.
    """

    site: str
    superlink: str
    owner: str
    ca: bytes
    owner_key: bytes
    node_key: bytes = field(repr=False)

    def members(self) -> dict[str, bytes]:
        """Files of the kit by name."""
        values = {"site": self.site, "superlink": self.superlink, "owner": self.owner, "version": version("socket-fl")}
        return {
            "README.txt": fill("README.txt", values),
            "ca.crt": self.ca,
            "compose.yaml": fill("compose-site.yaml", values),
            "node_key": self.node_key,
            "owner.pub.pem": self.owner_key,
            "site.yaml": fill("site.yaml", values),
        }

    def write(self, folder: Path) -> str:
        """Writes ``SITE/`` and ``SITE.tar.gz`` into ``folder``; both readable by the owner's user only.

        Returns:
            Sha256 of the archive, in hex.
        """
        members = self.members()
        place = folder / self.site
        place.mkdir(mode=0o700, parents=True)
        for name, content in members.items():
            write_new(place / name, content, mode_of(name))
        archive = pack(self.site, members)
        write_new(folder / f"{self.site}.tar.gz", archive, 0o600)
        return hashlib.sha256(archive).hexdigest()


def mode_of(name: str) -> int:
    """File mode of a kit's member."""
    return 0o600 if name in PRIVATE else 0o644


def pack(top: str, members: dict[str, bytes]) -> bytes:
    """A ``.tar.gz`` with ``members`` below the folder ``top``; the same members give the same bytes.

    No time, no user and no order of a disk enter it.
    """
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        root = tarfile.TarInfo(top)
        root.type, root.mode = tarfile.DIRTYPE, 0o700
        tar.addfile(root)
        for name in sorted(members):
            entry = tarfile.TarInfo(f"{top}/{name}")
            entry.size, entry.mode = len(members[name]), mode_of(name)
            tar.addfile(entry, io.BytesIO(members[name]))
    return gzip.compress(raw.getvalue(), mtime=0)


def write_new(path: Path, content: bytes, mode: int) -> None:
    """Creates a file with exactly these permissions, whatever the umask.

    Raises:
        FileExistsError: If it is there.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        os.fchmod(file.fileno(), mode)
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def fill(name: str, values: dict[str, str]) -> bytes:
    """A template of ``deploy/templates`` with its ``$names`` replaced."""
    text = (files("deploy") / "templates" / name).read_text(encoding="utf-8")
    return Template(text).substitute(values).encode()
