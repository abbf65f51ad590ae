"""The parts of an audit that are asked for by name: canaries in the code, an attack on what left, and the evidence."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from typer.testing import CliRunner

from client.cli import app
from socket_core.errors import ConfigError, PrivacyError
from socket_core.privacy import faults
from socket_core.privacy.canaries import CanaryStep
from socket_core.privacy.code_path import CodePathAudit, audit_code_path
from socket_core.privacy.faults import SelfTest
from tests.client.test_attack import folders, site_file

__all__ = ["site_file"]  # a fixture


def audit(*words: object) -> Result:
    return CliRunner().invoke(app, ["audit", *map(str, words)])


@pytest.fixture(scope="module")
def run() -> CodePathAudit:
    """A run of the right code, too short to show anything."""
    return audit_code_path(kind=CanaryStep, steps=2)


def _answers(found: SelfTest) -> Callable[..., SelfTest]:
    def self_test(on_step: Callable[[str, int, int], None]) -> SelfTest:
        on_step("as it is", 1, 1)
        return found

    return self_test


def test_the_attack_is_printed_drawn_and_signed(site_file: Path, tmp_path: Path) -> None:
    flags = [word for key, value in folders(site_file).items() for word in (f"--{key.replace('_', '-')}", value)]
    evidence, figure = tmp_path / "evidence.json", tmp_path / "roc.png"
    result = audit(site_file, *flags, "--figure", figure, "--export", evidence)
    assert result.exit_code == 0, result.output
    assert "membership attack on what was sent" in result.output
    assert figure.stat().st_size > 1000
    content = json.loads(evidence.read_text(encoding="utf-8"))["content"]
    assert {one["kind"] for one in content["membership"]["attacks"]} == {"TR", "TI"}
    assert "empirical" not in content


def test_an_audit_of_the_code_goes_into_the_json(
    site_file: Path, run: CodePathAudit, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(faults, "self_test", _answers(SelfTest(run, {})))
    result = audit(site_file, "--empirical", "--json")
    assert result.exit_code == 0, result.output
    found: dict[str, Any] = json.loads(result.stdout)
    assert found["empirical"]["ok"] is True
    assert found["empirical"]["right"]["guesses"] == run.guesses


def test_an_audit_that_does_not_see_a_fault_is_an_error(
    site_file: Path, run: CodePathAudit, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(faults, "self_test", _answers(SelfTest(run, {"no noise": run})))
    result = audit(site_file, "--empirical")
    assert isinstance(result.exception, PrivacyError)
    assert "did not see a fault" in str(result.exception)


def test_a_job_without_folders_is_answered_in_a_sentence(site_file: Path) -> None:
    result = audit(site_file, "--job", "some-job")
    assert isinstance(result.exception, ConfigError)
    assert "--others-tr" in str(result.exception)
