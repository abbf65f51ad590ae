"""A comparison with two sources, in process: every arm and the federation start from the same mixture."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from server.app import job_folder
from server.cli import app as owner_app
from server.compare import Plan, compare
from server.federate import LocalFederator
from server.progress import Display
from socket_core.errors import MethodError
from socket_core.methods import METHODS
from tests.server.builders import World, tree
from tests.server.several_builders import SeveralBench, two_sources

__all__ = ["two_sources"]


def test_all_arms_adapt_both_sources(two_sources: World, tmp_path: Path) -> None:
    bench = SeveralBench(two_sources, tmp_path, federation__sites=2, federation__rounds=1)
    plan = Plan(bench.experiment, ("unadapted", "socket"), (0,), bench.home, bench.cache, workers=1)
    rows = compare(plan, LocalFederator(), Display(quiet=True))
    assert [(r.method, r.mode) for r in rows] == [
        ("unadapted", "unadapted"),
        ("socket", "local"),
        ("socket", "federated"),
        ("socket", "centralised"),
    ]
    assert (job_folder(bench.home, plan.variant("socket", 0)) / "rounds.jsonl").exists()
    assert all(r.curve[0] == rows[0].accuracy for r in rows)


def test_a_comparison_with_a_method_for_one_source_is_refused_at_once(
    two_sources: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = SeveralBench(two_sources, tmp_path)
    before = tree(bench.home)
    monkeypatch.setattr(METHODS["shot"], "several_sources", False)
    plan = Plan(bench.experiment, ("socket", "shot"), (0,), bench.home, bench.cache, workers=1)
    with pytest.raises(MethodError, match="shot knows one source"):
        compare(plan, LocalFederator(), Display(quiet=True))
    assert tree(bench.home) == before


def test_each_owner_trains_its_own_source_from_the_command_line(two_sources: World, tmp_path: Path) -> None:
    bench = SeveralBench(two_sources, tmp_path)
    out = tmp_path / "second-owner"
    common = ["train", "--config", str(bench.config), "--out", str(out), "--cache", str(bench.cache), "--quiet"]
    common += ["--confirm-batchnorm-statistics"]
    result = CliRunner().invoke(owner_app, [*common, "--source", "lab"])
    assert result.exit_code == 0, result.output
    assert sorted(p.name for p in out.iterdir()) == ["keys", "release-lab-seed0"]
    assert sorted(p.name for p in (out / "keys").iterdir()) == ["lab.key.pem", "lab.pub.pem"]
    assert CliRunner().invoke(owner_app, [*common, "--source", "labb"]).exit_code != 0
