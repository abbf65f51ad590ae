"""Checks of machine and software, each as ok, warning and failure."""

from __future__ import annotations

from collections import namedtuple
from datetime import timedelta
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from socket_core import checks_software
from socket_core.checks import Examination
from socket_core.checks_machine import (
    GIB,
    WRITTEN,
    Gpu,
    available_memory,
    check_clock,
    check_device,
    check_disk,
    check_memory,
    check_private,
    check_writable,
    private_keys,
)
from socket_core.checks_software import (
    check_python,
    check_version,
    examine_experiment,
    examine_software,
    pins,
    requirements,
)
from socket_core.keys import create_keypair

LARGE, FULL = Gpu("H1", 20 * GIB), Gpu("H2", GIB)


@pytest.mark.parametrize(
    ("asked", "found", "state", "code"),
    [
        ("cpu", [], "ok", 1),
        ("auto", [LARGE], "ok", 1),
        ("auto", [], "warning", 1),
        ("auto", [FULL], "warning", 1),
        ("cuda:1", [LARGE, LARGE], "ok", 1),
        ("cuda:1", [LARGE, FULL], "warning", 1),
        ("cuda:1", [LARGE], "failed", 5),
        ("cuda", [], "failed", 5),
    ],
)
def test_device(asked: str, found: list[Gpu], state: str, code: int) -> None:
    check = check_device(asked, found)
    assert (check.state, check.exit_code) == (state, code)


@pytest.mark.parametrize(
    ("available", "need", "state"),
    [(8 * GIB, 0, "ok"), (8 * GIB, 6 * GIB, "ok"), (8 * GIB, 6 * GIB + 1, "warning"), (GIB, 0, "warning"),
     (GIB, 2 * GIB, "failed")],
)  # fmt: skip
def test_memory(available: int, need: int, state: str) -> None:
    assert check_memory(available, need).state == state


def test_available_memory_is_what_linux_says(tmp_path: Path) -> None:
    (tmp_path / "meminfo").write_text("MemTotal:  100 kB\nMemFree:  10 kB\nMemAvailable:   42 kB\n")
    assert available_memory(tmp_path / "meminfo") == 42 * 1024


@pytest.mark.parametrize(("version", "state"), [((3, 11, 9), "ok"), ((3, 12, 0), "warning"), ((3, 10, 14), "failed")])
def test_python(version: tuple[int, ...], state: str) -> None:
    assert check_python(version).state == state


@pytest.mark.parametrize(
    ("found", "pin", "state"),
    [
        ("1.39.0", "1.39.0", "ok"),
        ("1.39.0+cu130", "1.39.0", "ok"),
        ("1.39.0", None, "ok"),
        ("1.38.0", "1.39.0", "warning"),
        ("1.41.0", "1.39.0", "failed"),
        (None, None, "failed"),
    ],
)
def test_version(found: str | None, pin: str | None, state: str) -> None:
    check = check_version("flwr", found, Requirement("flwr>=1.36,<1.40"), pin)
    assert check.state == state
    assert ("flwr<1.40,>=1.36" in check.remedy) == (state == "failed")


def test_pins_and_requirements_are_read(tmp_path: Path) -> None:
    (tmp_path / "constraints.txt").write_text("PyYAML==6.0.3\ntorch==2.15.0\n")
    assert pins(tmp_path / "constraints.txt") == {"pyyaml": "6.0.3", "torch": "2.15.0"}
    assert pins(tmp_path / "absent.txt") == {}
    assert not requirements()["flwr"].specifier.contains("1.40.0")
    assert "onnx" not in requirements(), "an extra is not required"
    assert requirements("no-such-package") == {}


def test_the_environment_of_the_tests_is_the_one_that_is_pinned() -> None:
    found = Examination()
    examine_software(found)
    assert {check.name: check.state for check in found.checks} == dict.fromkeys(
        ["python", *checks_software.CHECKED], "ok"
    )


def test_an_experiment_that_cannot_be_read_is_a_failure(tmp_path: Path) -> None:
    (tmp_path / "good.yaml").write_text("name: mine\n")
    (tmp_path / "bad.yaml").write_text("nam: mine\n")
    found = Examination()
    [experiment] = examine_experiment(found, tmp_path / "good.yaml", {"data.size": 32})
    assert (experiment.name, experiment.data.size) == ("mine", 32)
    assert examine_experiment(found, tmp_path / "bad.yaml", {}) == []
    assert examine_experiment(found, None, {}) == []
    assert [(check.state, check.exit_code) for check in found.checks] == [("ok", 1), ("failed", 2)]
    assert "did you mean 'name'" in found.checks[1].remedy


def test_clock() -> None:
    now = WRITTEN + timedelta(days=30)
    assert check_clock(now, None).state == "ok"
    assert check_clock(now, now).state == "ok"
    assert check_clock(now, now + timedelta(seconds=1)).state == "failed"
    assert check_clock(WRITTEN - timedelta(seconds=1), None).state == "failed"


def test_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "free")
    monkeypatch.setattr(
        "socket_core.checks_machine.shutil.disk_usage", lambda path: usage(3 * GIB if path.exists() else -1)
    )
    states = {need: check_disk(tmp_path / "not" / "yet", need * GIB).state for need in (2, 3, 4)}
    assert states == {2: "ok", 3: "warning", 4: "failed"}


def test_home_can_be_written_or_made(tmp_path: Path) -> None:
    assert check_writable(tmp_path).found == "writable"
    assert check_writable(tmp_path / "a" / "b").state == "ok"
    assert not (tmp_path / "a").exists()
    (tmp_path / "file").write_text("")
    check = check_writable(tmp_path / "file")
    assert check.state == "failed"


def test_private_files_are_for_their_owner_alone(tmp_path: Path) -> None:
    private, public = create_keypair(tmp_path, "owner")
    openssh = tmp_path / "node_key"
    openssh.write_text("-----BEGIN OPENSSH PRIVATE KEY-----\nx\n")
    openssh.chmod(0o600)
    assert private_keys([tmp_path, tmp_path / "absent"]) == [openssh, private]
    assert check_private([private, openssh]).state == "ok"
    openssh.chmod(0o640)
    check = check_private([private, openssh])
    assert check.state == "failed"
    assert check.found == "group or others can access node_key"
    assert f"chmod 600 {openssh};" in check.remedy
    assert check_private([]).state == "ok"
    assert public.exists()
