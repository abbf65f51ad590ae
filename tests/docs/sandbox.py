"""A folder in which the commands of the documentation run in seconds: the product's configurations, made tiny."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image
from typer.testing import CliRunner

from client.cli import app as site_app
from server.cli import app as owner_app
from server.federate import LocalFederator
from socket_core.errors import SocketError
from tests.docs.markdown import ROOT, Block

APPS = {"socket-owner": owner_app, "socket-site": site_app}
TINY: dict[str, Any] = {
    "device": "cpu",
    "data": {
        "size": 48,
        "scenes": {"source_train": 16, "source_test": 8, "target_train": 16, "target_test": 8, "ti": 16},
    },
    "source": {"epochs": 1, "batch": 4, "threads": 1},
    "method": {"batch": 4, "translator": {"width": 8}},
    "federation": {"sites": 2, "rounds": 2, "steps": 1, "quorum": 1, "partition": "iid"},
}
MINE: dict[str, Any] = {
    "name": "mine",
    "data": {"kind": "folder", "root": "my", "classes": ["office", "kitchen"], "full_scale": 10_000},
}
PRIVATE: dict[str, Any] = {
    "method": {"trust": "always"},
    "privacy": {"sigma": 2.0, "sample_rate": 0.5, "expected_batch": 4},
}
SITE = {
    "name": "north",
    "tr": "images/task",
    "ti_rgb": "my/train/rgb/lobby",
    "ti_target": "my/train/depth/lobby",
    "full_scale": 10_000,
    "home": "site-state",
    "owner_key": "keys/owner.pub.pem",
}


def merged(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """Section by section; ``over`` holds where both say something."""
    out = dict(base)
    for key, value in over.items():
        both = isinstance(value, dict) and isinstance(out.get(key), dict)
        out[key] = merged(out[key], value) if both else value
    return out


def tiny(text: str) -> str:
    """A configuration of the product, small; what extends another is small because that is."""
    raw = yaml.safe_load(text)
    is_experiment = "extends" not in raw and "owner_key" not in raw
    return yaml.safe_dump(merged(raw, TINY) if is_experiment else raw, sort_keys=False)


def write_images(root: Path) -> None:
    """Pairs of three classes in the common layout: two of the task, and a lobby."""
    rng = np.random.default_rng(0)
    for split in ("train", "test"):
        for label in ("office", "kitchen", "lobby"):
            for modality, dtype, top in (("rgb", np.uint8, 256), ("depth", np.uint16, 10_000)):
                folder = root / split / modality / label
                folder.mkdir(parents=True)
                for number in range(8):
                    shape = (24, 24, 3) if modality == "rgb" else (24, 24)
                    Image.fromarray(rng.integers(0, top, shape).astype(dtype)).save(folder / f"{number:03d}.png")


def build(folder: Path) -> None:
    """What pages take for granted: images, configurations, a release with its key, results of a comparison."""
    for path in sorted((ROOT / "configs").rglob("*.yaml")):
        target = folder / path.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(tiny(path.read_text(encoding="utf-8")), encoding="utf-8")
    write_images(folder / "my")
    (folder / "images").mkdir()
    (folder / "images" / "task").symlink_to("../my/test/depth/office")
    (folder / "my" / "test" / "depth" / "office" / "0001.png").symlink_to("001.png")
    (folder / "experiment.yaml").write_text(tiny(yaml.safe_dump(MINE | PRIVATE)), encoding="utf-8")
    (folder / "my.yaml").write_text(tiny(yaml.safe_dump(MINE)), encoding="utf-8")
    (folder / "site.yaml").write_text(yaml.safe_dump(SITE), encoding="utf-8")
    for results in (folder / "docs" / "results" / "demo.json", folder / "runs" / "demo" / "results.json"):
        results.parent.mkdir(parents=True)
        results.write_bytes((ROOT / "docs" / "results" / "demo.json").read_bytes())
    run(["socket-owner", "train", "--config", "experiment.yaml", "--out", ".", "--confirm-batchnorm-statistics"])
    (folder / "RELEASE").symlink_to("release-seed0")


def write_file_of(block: Block, folder: Path) -> None:
    """A YAML block is a file if the text above ends with its name, as in "an experiment, `my.yaml`:"."""
    if named := re.search(r"`([\w/.-]+\.yaml)`:$", block.above):
        path = folder / named[1]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(tiny(block.text), encoding="utf-8")


def run(words: list[str]) -> None:
    """Runs a command of ours in this process; anything but exit code 0 is an error, with what was printed."""
    result = CliRunner().invoke(APPS[words[0]], words[1:])
    if isinstance(result.exception, SocketError):
        raise result.exception
    assert result.exit_code == 0, f"{words}: {result.output}{result.exception!r}"


def stay_in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Comparisons start neither Flower nor worker processes, whose start would take longer than all they do here."""
    monkeypatch.setattr("server.federate.FlowerFederator", LocalFederator)
    monkeypatch.setattr("server.arm_pool._processes", lambda count, log: ThreadPoolExecutor(1))
