"""``socket-site doctor`` on small sites: each check as ok, warning and failure; nothing is changed."""

from __future__ import annotations

import json
import shutil
import sqlite3
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from typer.testing import CliRunner

from client.cli import app
from client.doctor import check_home_private, examine
from client.doctor_site import check_ledger_writable, newest_entry
from client.journal import Journal
from client.releases import keep_pinned
from client.site import open_deployed, site_of
from client.site_file import read_site_file
from socket_core import checks_machine
from socket_core.checks import Check
from socket_core.privacy.accounting import Event
from socket_core.privacy.ledger import Ledger, Limits
from socket_core.release import WEIGHTS, pack_release
from tests.client.builders import Deployment
from tests.client.tls_builders import Authority, serving
from tests.core.disk_builders import colour, grey
from tests.server.builders import World, raw_with, tree


@pytest.fixture
def deployed(tmp_path: Path, world: World) -> Deployment:
    """A sound site that has nothing yet."""
    return Deployment(tmp_path / "site", world.home / "keys" / "owner.pub.pem")


def _config(deployed: Deployment, **changes: Any) -> Path:
    path = deployed.folder / "experiment.yaml"
    path.write_text(yaml.safe_dump(raw_with(**changes)), encoding="utf-8")
    return path


def _checks(deployed: Deployment, **given: Any) -> dict[str, Check]:
    return {check.name: check for check in examine(deployed.path, **given).checks}


def test_a_sound_site_has_no_failure_and_stays_as_it_is(deployed: Deployment, world: World) -> None:
    config, before = _config(deployed), tree(deployed.folder)
    found = examine(deployed.path, config=config, releases=[world.home / "release-seed0"])
    assert [check.name for check in found.checks if check.state == "failed"] == []
    assert found.exit_code == 0
    checks = {check.name: check for check in found.checks}
    assert checks["TR images"].found == "8 images, 8 bits, 48x48"
    assert checks["TI pairs"].found == "6 pairs, 8 bits"
    assert checks["policy"].found == "would allow socket of small"
    assert checks["release release-seed0"].state == "ok"
    assert checks["ledger"].found.startswith("none yet")
    assert tree(deployed.folder) == before
    assert not (deployed.folder / "home").exists()


def test_a_wrong_site_file_skips_what_needs_it_and_leaves_the_rest(deployed: Deployment) -> None:
    deployed.raw["modalty"] = "depth"
    deployed.write()
    checks = _checks(deployed)
    assert (checks["site file"].state, checks["site file"].exit_code) == ("failed", 2)
    assert "did you mean 'modality'" in checks["site file"].remedy
    skipped = ["owner keys", "memory", "home", "disk", "TR images", "TI pairs", "policy", "release", "ledger"]
    skipped += ["ledger writable", "egress journal", "clock", "key permissions", "home permissions", "connection"]
    assert [name for name, check in checks.items() if check.state == "skipped"] == skipped
    assert checks["torch"].state == "ok"


def test_a_missing_owner_key_is_a_failure_of_releases(deployed: Deployment) -> None:
    deployed.raw["owner_key"] = str(deployed.folder / "absent.pem")
    deployed.write()
    checks = _checks(deployed)
    assert (checks["owner keys"].state, checks["owner keys"].exit_code) == ("failed", 4)
    assert checks["policy"].state == "skipped"
    assert checks["TR images"].state == "ok"


def test_task_images(deployed: Deployment) -> None:
    folder = deployed.folder / "tr"
    grey(folder / "odd.png", np.zeros((20, 30), np.uint8))
    assert _checks(deployed)["TR images"].state == "warning"
    (folder / "odd.png").write_bytes(b"no image")
    check = _checks(deployed)["TR images"]
    assert (check.state, check.exit_code, check.found) == ("failed", 3, "1 of 9 cannot be read")
    assert "odd.png" in _checks(deployed, name_files=True)["TR images"].found
    grey(folder / "odd.png", np.zeros((48, 48), np.uint16))
    assert _checks(deployed)["TR images"].found == "8 with 8 bits and 1 with 16 bits"
    shutil.rmtree(folder / "monday")
    check = _checks(deployed)["TR images"]
    assert (check.state, "full_scale" in check.remedy) == ("failed", True)
    deployed.raw["full_scale"] = 10000
    deployed.write()
    assert "at least 2" in _checks(deployed)["TR images"].remedy
    (folder / "odd.png").unlink()
    assert _checks(deployed)["TR images"].found == "no image found"


def test_pairs(deployed: Deployment) -> None:
    rgb = deployed.folder / "ti" / "rgb"
    colour(rgb / "000.png", 7)
    assert _checks(deployed)["TI pairs"].found == "pairs whose halves differ in size: 1"
    (rgb / "000.png").write_bytes(b"no image")
    assert _checks(deployed)["TI pairs"].found == "files that cannot be read: 1"
    (rgb / "000.png").unlink()
    check = _checks(deployed)["TI pairs"]
    assert (check.state, check.exit_code, check.found) == ("failed", 3, "files without other half: 1")
    assert "depth/000.png" in _checks(deployed, name_files=True)["TI pairs"].found


def test_a_run_that_the_policy_refuses(deployed: Deployment) -> None:
    deployed.raw["policy"] = {"methods": ["shot"]}
    deployed.write()
    check = _checks(deployed, config=_config(deployed))["policy"]
    assert (check.state, check.exit_code) == ("failed", 7)
    assert "method 'socket'" in check.found
    assert _checks(deployed)["policy"].state == "ok"
    (deployed.folder / "experiment.yaml").write_text("nam: x\n")
    checks = _checks(deployed, config=deployed.folder / "experiment.yaml")
    assert (checks["experiment"].state, checks["policy"].state) == ("failed", "skipped")


def test_releases_that_are_held_or_given(deployed: Deployment, world: World) -> None:
    source, home = world.home / "release-seed0", deployed.folder / "home"
    folder = keep_pinned(open_deployed(deployed.path), pack_release(source))
    name = f"release {folder.name[:32]}"
    assert _checks(deployed)[name].state == "ok"
    shutil.copytree(folder, home / "releases" / ("d" * 64))
    check = _checks(deployed)["release " + "d" * 32]
    assert (check.state, check.found) == ("failed", "the cached release has another digest")
    weights = folder / WEIGHTS
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    assert (_checks(deployed)[name].state, _checks(deployed)[name].exit_code) == ("failed", 4)
    config = _config(deployed, data__size=32)
    check = _checks(deployed, config=config, releases=[source])["release release-seed0"]
    assert (check.state, "data.size 48" in check.found) == ("failed", True)


def test_the_ledger_and_the_clock(deployed: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    site = open_deployed(deployed.path)
    assert newest_entry(site) is None
    charged_at(site.ledger_file)
    checks = _checks(deployed)
    assert checks["ledger"].found == "1 charges, chain intact"
    assert (checks["ledger writable"].state, checks["clock"].state) == ("ok", "ok")
    assert checks["egress journal"].found.startswith("none yet")
    assert "whole-site ledger" not in checks
    Journal(site.journal_file).write({"time": "2126-01-01T00:00:00+00:00"})
    checks = _checks(deployed)
    assert checks["egress journal"].found == "1 messages, chain intact"
    assert (checks["clock"].state, checks["clock"].exit_code) == ("failed", 1)
    newest = newest_entry(site)
    assert newest is not None
    assert newest.year == 2126
    monkeypatch.setattr(checks_machine, "WRITTEN", newest + timedelta(days=1))
    assert "before this version was written" in _checks(deployed)["clock"].found
    site.ledger_file.with_suffix(".head").unlink()
    checks = _checks(deployed)
    assert (checks["ledger"].state, checks["ledger"].exit_code) == ("failed", 8)
    assert (checks["ledger writable"].state, checks["clock"].state) == ("skipped", "skipped")


def test_an_altered_journal_and_a_whole_site_ledger_without_its_key(deployed: Deployment) -> None:
    site = open_deployed(deployed.path)
    Journal(site.journal_file).write({"time": "2026-11-02T00:00:00+00:00"})
    charged_at(site.site_ledger_file)
    checks = _checks(deployed)
    assert checks["whole-site ledger"].found == "1 charges, chain intact"
    assert checks["key permissions"].found == "site-level.key, egress.key for their owner alone"
    with closing(sqlite3.connect(site.journal_file, isolation_level=None)) as database:
        database.execute("UPDATE entries SET body = replace(body, '2026', '2025')")
    site.site_ledger_file.with_suffix(".key").unlink()
    checks = _checks(deployed)
    for name in ("egress journal", "whole-site ledger"):
        assert (checks[name].state, checks[name].exit_code) == ("failed", 8)
    assert checks["clock"].state == "skipped"


def charged_at(path: Path) -> None:
    """A ledger with one charge."""
    Ledger(path).account([b"a", b"b"], "job", Limits(3.0, 1e-5)).charge(Event(2.0, 0.1, 5))


def test_a_ledger_that_cannot_be_written_now(deployed: Deployment) -> None:
    path = open_deployed(deployed.path).ledger_file
    assert check_ledger_writable(path).state == "skipped"
    Ledger(path)
    writer = sqlite3.connect(path, isolation_level=None)
    try:
        writer.execute("BEGIN IMMEDIATE")
        assert check_ledger_writable(path).state == "warning"
    finally:
        writer.close()
    assert check_ledger_writable(path).state == "ok"
    path.unlink()
    path.mkdir()
    check = check_ledger_writable(path)
    assert (check.state, check.exit_code) == ("failed", 8)


def test_key_and_home_permissions(deployed: Deployment) -> None:
    site = open_deployed(deployed.path)
    Ledger(site.ledger_file)
    assert _checks(deployed)["key permissions"].found == "ledger.key for their owner alone"
    node = deployed.folder / "node"
    node.write_text("x")
    node.chmod(0o644)
    assert _checks(deployed)["key permissions"].state == "ok"
    check = _checks(deployed, node_key=node)["key permissions"]
    assert (check.state, check.found) == ("failed", "group or others can access node")
    assert _checks(deployed, node_key=deployed.folder / "gone")["key permissions"].found == "gone is not there"
    site.store.home.chmod(0o755)
    assert check_home_private(site.store.home).state == "warning"
    site.store.home.chmod(0o700)
    assert check_home_private(site.store.home).state == "ok"


def test_images_that_do_not_fit_into_memory_or_on_the_disk(
    deployed: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    # 8 TR and 6 TI target images of two bytes, 6 TI RGB images of three: 46 bytes for each pixel of 1024 x 1024.
    config = _config(deployed, data__size=1024)
    monkeypatch.setattr(checks_machine, "available_memory", lambda: 46 * 1024**2 - 1)
    assert _checks(deployed, config=config)["memory"].state == "failed"
    monkeypatch.setattr(checks_machine, "available_memory", lambda: 46 * 1024**2)
    assert _checks(deployed, config=config)["memory"].state == "warning"
    assert "0.05 needed" in _checks(deployed, config=config)["disk"].found


def test_the_command_with_a_server_and_json(deployed: Deployment, tmp_path: Path) -> None:
    owner, stranger = Authority.make(tmp_path / "a"), Authority.make(tmp_path / "b", "stranger")
    words = ["doctor", str(deployed.path), "--json", "--ca"]
    with serving(owner.issue()) as server:
        good = CliRunner().invoke(app, [*words, str(owner.pem), "--server", str(server)])
        bad = CliRunner().invoke(app, [*words, str(stranger.pem), "--server", str(server)])
    assert good.exit_code == 0, good.output
    assert json.loads(good.stdout)["counts"]["failed"] == 0
    assert bad.exit_code == 6
    [failure] = [check for check in json.loads(bad.stdout)["checks"] if check["state"] == "failed"]
    assert failure["name"] == "certificate authority"
    assert CliRunner().invoke(app, ["doctor", str(deployed.path), "--server", "nowhere"]).exit_code == 2
    shown = CliRunner().invoke(app, ["doctor", str(deployed.path)])
    assert "skipped  connection" in shown.stdout
    assert "ok       TR images" in shown.stdout
    assert shown.exit_code == 0


def test_reading_a_site_makes_nothing(deployed: Deployment) -> None:
    site_of(read_site_file(deployed.path))
    assert not (deployed.folder / "home").exists()
