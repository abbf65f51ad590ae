"""``socket-owner doctor``: keys, releases and experiments, sound and not."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from server.cli import app
from server.doctor import check_weights, examine
from socket_core.checks import Check
from socket_core.errors import ConfigError
from socket_core.keys import create_keypair
from socket_core.release import SIGNATURE
from tests.core.disk_builders import diml
from tests.server.builders import World, experiment_with, raw_with, tree


@pytest.fixture
def home(world: World, tmp_path: Path) -> Path:
    """Keys and a release that a test may damage."""
    return Path(shutil.copytree(world.home, tmp_path / "home"))


def _config(folder: Path, **changes: Any) -> Path:
    path = folder / "experiment.yaml"
    path.write_text(yaml.safe_dump(raw_with(**changes)), encoding="utf-8")
    return path


def _checks(home: Path | None, config: Path | None = None) -> dict[str, Check]:
    return {check.name: check for check in examine(home, config=config).checks}


def test_a_sound_owner_has_no_failure_and_stays_as_it_is(home: Path, tmp_path: Path) -> None:
    before = tree(home)
    checks = _checks(home, _config(tmp_path))
    assert [name for name, check in checks.items() if check.state == "failed"] == []
    assert checks["release-seed0"].found.endswith("signature and weights are right")
    assert checks["keys"].found.startswith("owner.key.pem ")
    assert checks["images"].found.startswith("embedded scenes")
    assert checks["backbone weights"].state == "ok"
    assert tree(home) == before


def test_an_empty_folder_is_a_beginning(tmp_path: Path) -> None:
    checks = _checks(tmp_path / "new")
    assert {checks[name].state for name in ("home", "disk", "key permissions", "keys", "release")} == {"ok"}
    assert not (tmp_path / "new").exists()


def test_keys_that_others_can_read_or_that_are_no_pair(home: Path) -> None:
    key = home / "keys" / "owner.key.pem"
    key.chmod(0o644)
    checks = _checks(home)
    assert (checks["key permissions"].state, checks["keys"].state) == ("failed", "skipped")
    key.chmod(0o600)
    private, _ = create_keypair(home / "keys", "lab")
    shutil.copy(private, key)
    assert (_checks(home)["keys"].state, _checks(home)["keys"].exit_code) == ("failed", 4)


def test_releases_that_nobody_here_signed_or_that_do_not_fit(home: Path, tmp_path: Path) -> None:
    check = _checks(home, _config(tmp_path, data__size=32))["release-seed0"]
    assert (check.state, "data.size 48" in check.found) == ("failed", True)
    signature = home / "release-seed0" / SIGNATURE
    signature.write_bytes(bytes(len(signature.read_bytes())))
    assert (_checks(home)["release-seed0"].state, _checks(home)["release-seed0"].exit_code) == ("failed", 4)
    shutil.rmtree(home / "keys")
    assert _checks(home)["release-seed0"].found == "no public key to check it with"


def test_images_of_an_experiment(tmp_path: Path) -> None:
    root = diml(tmp_path / "set")
    config = tmp_path / "experiment.yaml"

    def images(**data: Any) -> Check:
        config.write_text(yaml.safe_dump({"data": {"kind": "diml", "root": str(root), **data}}))
        return _checks(None, config)["images"]

    assert images(classes=["cafe", "library"]).found == "3 classes, 4 pairs, 0 files that cannot be used"
    check = images(classes=["cafe", "pub"])
    assert (check.state, check.exit_code) == ("failed", 3)
    broken = next(root.rglob("in_*_c.png"))
    broken.write_bytes(b"no image")
    assert images(classes=["cafe", "library"]).state == "failed"
    assert images(classes=["cafe", "library"], skip_broken=True).state == "ok"


def test_backbone_weights_that_are_not_there(tmp_path: Path) -> None:
    asked = experiment_with(network__weights=str(tmp_path / "resnet.pth"))
    assert (check_weights(asked).state, check_weights(asked).exit_code) == ("failed", 2)
    (tmp_path / "resnet.pth").write_bytes(b"")
    assert check_weights(asked).found == "resnet.pth"


def test_the_command(home: Path) -> None:
    result = CliRunner().invoke(app, ["doctor", str(home), "--json"])
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["exit_code"] == 0
    (home / "keys" / "owner.key.pem").chmod(0o666)
    assert CliRunner().invoke(app, ["doctor", str(home)]).exit_code == 1
    result = CliRunner().invoke(app, ["doctor"])
    assert isinstance(result.exception, ConfigError)
