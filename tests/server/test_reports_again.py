"""``socket-owner report``: page, Markdown and CSV from a results file alone."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from server.cli import app
from server.results import write_results
from socket_core.errors import ConfigError, FederationError
from tests.server.rows import row


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """A small results file."""
    path = tmp_path / "results.json"
    rows = [row("socket", mode, seed) for mode in ("federated", "centralised") for seed in (0, 1)]
    write_results(path, rows, experiment={"name": "mine"}, facts={"command": "c", "modality": "depth"})
    return path


def test_all_is_made_again_beside_the_results(results: Path) -> None:
    done = CliRunner().invoke(app, ["report", str(results)])
    assert done.exit_code == 0, done.output
    names = [Path(line).name for line in done.stdout.splitlines()]
    assert names == ["report.html", "report.md", "results.csv"]
    text = (results.parent / "report.md").read_text()
    assert text.startswith("# RGB to depth: mine\n\n`c`\n\n| method |")
    assert "- Against centralising, federating is within noise" in text
    page = (results.parent / "report.html").read_text()
    assert "<h1>RGB to depth: mine</h1>" in page
    assert "<img" not in page
    assert len((results.parent / "results.csv").read_text().splitlines()) == 5
    before = {name: (results.parent / name).read_bytes() for name in names}
    CliRunner().invoke(app, ["report", str(results)])
    assert {name: (results.parent / name).read_bytes() for name in names} == before


def test_the_picture_beside_the_results_goes_into_the_page(results: Path, tmp_path: Path) -> None:
    (tmp_path / "curves.png").write_bytes(b"\x89PNG")
    done = CliRunner().invoke(app, ["report", str(results), "--out", str(tmp_path / "further" / "r.html")])
    assert done.exit_code == 0, done.output
    assert 'src="data:image/png;base64,iVBORw=="' in (tmp_path / "further" / "r.html").read_text()
    assert sorted(p.name for p in (tmp_path / "further").iterdir()) == ["r.html", "r.md", "results.csv"]


def test_what_cannot_be_reported_is_refused(results: Path, tmp_path: Path) -> None:
    wrong = CliRunner().invoke(app, ["report", str(results), "--out", str(tmp_path / "r.pdf")])
    assert isinstance(wrong.exception, ConfigError)
    write_results(tmp_path / "empty.json", [], experiment={}, facts={})
    empty = CliRunner().invoke(app, ["report", str(tmp_path / "empty.json")])
    assert isinstance(empty.exception, FederationError)
    missing = CliRunner().invoke(app, ["report", str(tmp_path / "none.json")])
    assert isinstance(missing.exception, FederationError)
