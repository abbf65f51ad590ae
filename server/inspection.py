"""What ``socket-owner inspect`` shows of a release."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from socket_core.keys import load_public_key, short
from socket_core.release import read_info, read_release


def describe(folder: Path, key: Path | None) -> dict[str, Any]:
    """Facts about a release.

    Without a key the signature is not checked, and the facts say so. With one, weights are checked too.

    Raises:
        ReleaseError: If the release is damaged or not signed by ``key``.
    """
    public_key = load_public_key(key) if key is not None else None
    info, manifest = read_info(folder, public_key)
    if public_key is not None:
        read_release(folder, public_key)
    return {
        "name": info.name,
        "digest": info.digest,
        "signature": "valid, weights match" if public_key is not None else "NOT CHECKED (give --key)",
        "signed_by": short(manifest.public_key_id.hex()) + ("" if public_key is not None else " (unverified)"),
        "created": datetime.fromtimestamp(info.created_at, UTC).isoformat(timespec="seconds"),
        "network": f"{info.backbone}, bottleneck {info.bottleneck_dim}",
        "classes": ", ".join(info.classes),
        "image_size": info.image_size,
        "mean": list(info.mean),
        "std": list(info.std),
        "weights_bytes": manifest.weights_bytes,
        "tensors": len(manifest.tensors),
        "source_accuracy": round(info.source_accuracy, 4),
        "training": f"{info.epochs} epochs, best {info.best_epoch}, seed {info.seed}",
        "owner_statement": info.owner_statement,
    }
