"""A deployed site's disk: small image folders and a site.yaml."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import yaml
from flwr.app import Context, RecordDict
from PIL import Image


def write_images(folder: Path, count: int, kind: str, *, seed: int = 0) -> None:
    """Small PNG files with names 000, 001, ..."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    for index in range(count):
        shape = (48, 48, 3) if kind == "rgb" else (48, 48)
        pixels = rng.integers(0, 255, shape, dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{index:03d}.png")


class Deployment:
    """A site's disk."""

    def __init__(self, folder: Path, owner_key: Path, name: str = "north-roof", seed: int = 0, **changes: Any) -> None:
        self.folder = folder
        write_images(folder / "tr" / "monday", 8, "depth", seed=seed)
        write_images(folder / "ti" / "rgb", 6, "rgb", seed=seed + 1)
        write_images(folder / "ti" / "depth", 6, "depth", seed=seed + 2)
        self.path = folder / "site.yaml"
        self.raw: dict[str, Any] = {
            "name": name,
            "modality": "depth",
            "owner_key": str(owner_key),
            "home": str(folder / "home"),
            "tr": str(folder / "tr"),
            "ti_rgb": str(folder / "ti" / "rgb"),
            "ti_target": str(folder / "ti" / "depth"),
            **changes,
        }
        self.write()

    def write(self) -> None:
        """Writes site.yaml."""
        self.path.write_text(yaml.safe_dump(self.raw), encoding="utf-8")

    def context(self, node: int) -> Context:
        """The Flower context of a SuperNode started with this file."""
        config: dict[str, Any] = {"site-config": str(self.path)}
        return Context(run_id=1, node_id=node, node_config=config, state=RecordDict(), run_config={})
