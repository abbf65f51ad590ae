"""What a site can show to an auditor: one signed file, without a pair, a path, or a number of pairs in it."""

from __future__ import annotations

import math
import platform
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from client.evidence_format import FORMAT, PURPOSE, SECTIONS, VERSION
from client.explain import explain
from client.site import Site
from client.verification import Verification
from socket_core.errors import PrivacyError
from socket_core.files import write_atomically
from socket_core.keys import create_keypair, load_private_key
from socket_core.signed_json import sign

PACKAGES = ("socket-fl", "flwr", "torch", "numpy", "opacus", "dp-accounting", "cryptography", "protobuf", "safetensors")


def export(site: Site, found: Verification, out: Path, extra: dict[str, Any] | None = None) -> str:
    """Writes the evidence, signed with the site's own key.

    Args:
        site: The site.
        found: Its books, as checked now; failed checks are written down as such.
        out: The file, written whole or not at all.
        extra: Further sections, see :func:`collect`.

    Returns:
        The path of the public key that checks it.

    Raises:
        ReleaseError: If the site's key pair is incomplete, or others can read the private half.
        PrivacyError: If an extra section is not known, or the file would be too large to be read again.
    """
    key, public = site_key(site)
    write_atomically(out, sign(collect(site, found, extra), key, PURPOSE))
    return str(public)


def site_key(site: Site) -> tuple[Ed25519PrivateKey, Path]:
    """The site's own signing key, made on first use, and the file of its public half.

    Raises:
        ReleaseError: If half of the pair is gone, or others can read the private half.
    """
    private, public = (site.store.home / f"site.{half}.pem" for half in ("key", "pub"))
    if not private.exists() and not public.exists():
        create_keypair(site.store.home, "site")
    return load_private_key(private), public


def collect(site: Site, found: Verification, extra: dict[str, Any] | None = None) -> dict[str, Any]:
    """The content of the evidence as plain values.

    Args:
        site: The site.
        found: Its books.
        extra: Sections ``empirical`` and ``membership``, each a mapping; one with ``ok: false`` counts as a failed
            check to whoever verifies the file.

    Raises:
        PrivacyError: If there is another section.
    """
    extra = extra or {}
    if unknown := sorted(extra.keys() - SECTIONS):
        raise PrivacyError(f"evidence has no section {unknown[0]!r}", where="evidence", remedy="this is a fault")
    content = {
        "format": FORMAT,
        "version": VERSION,
        "product": f"socket-fl {version('socket-fl')}",
        "site": site.name,
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "policy": site.policy.model_dump(mode="json"),
        "policy_in_words": explain(site),
        "audit": _without_path(found.audit),
        "whole_site": _without_path(found.whole_site),
        "charges": [asdict(charge) for charge in found.charges],
        "verification": found.plain(),
        "egress": egress_summary(found.left),
        "software": {"python": platform.python_version()} | {name: version(name) for name in PACKAGES},
        **extra,
    }
    return {key: _finite(value) for key, value in content.items()}


def _without_path(book: dict[str, Any] | None) -> dict[str, Any] | None:
    return None if book is None else {key: value for key, value in book.items() if key != "ledger"}


def egress_summary(left: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """How much left, by kind, and the hash of each payload in the order in which they left."""
    left = list(left)
    messages, size, tensors = (Counter[str]() for _ in range(3))
    for entry in left:
        messages[entry["kind"]] += 1
        size[entry["kind"]] += entry["bytes"]
        tensors[entry["kind"]] += len(entry["tensors"])
    return {
        "messages": len(left),
        "bytes": size.total(),
        "kinds": {k: {"messages": messages[k], "bytes": size[k], "tensors": tensors[k]} for k in sorted(messages)},
        "payload_sha256": [entry["payload_sha256"] for entry in left],
    }


def _finite(value: Any) -> Any:
    """The same value without infinities, which JSON has not: an accountant without a bound says null."""
    if isinstance(value, dict):
        return {key: _finite(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
