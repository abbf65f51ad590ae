"""README and docs show what the committed results files say."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from benchmarks.record import Figure, Part, facts, keep
from server.results import read_results, write_results
from tests.server.rows import row

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts"))

import update_tables


def test_tables_in_readme_and_docs_are_those_of_the_results_files() -> None:
    assert update_tables.main(["--check"]) == 0


def test_a_wrong_figure_is_noticed_and_mended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    results = tmp_path / "docs" / "results"
    results.mkdir(parents=True)
    source = update_tables.ROOT / "docs" / "results" / "demo.json"
    (results / "demo.json").write_bytes(source.read_bytes())
    readme = tmp_path / "README.md"
    readme.write_text("before\n<!-- table: docs/results/demo.json -->\n99.9\n<!-- /table -->\nafter\n")
    monkeypatch.setattr(update_tables, "ROOT", tmp_path)
    assert update_tables.main(["--check"]) == 1
    assert update_tables.main([]) == 0
    assert update_tables.main(["--check"]) == 0
    text = readme.read_text()
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert "99.9\n<!--" not in text
    assert "| socket |" in text


def test_a_block_of_a_performance_file_shows_the_part_that_it_names(tmp_path: Path) -> None:
    part = Part({"rounds": 3}, [Figure("step", 1.04, "x", "bound", 1.01, 1.06, 3)], ["a note"])
    keep(tmp_path / "p.json", "step", part, facts("step", quick=False, load_before=0.5))
    text = update_tables.updated("<!-- table: p.json --><!-- step -->\n<!-- /table -->", tmp_path)
    assert "| step | 1.04 x [1.01, 1.06] | bound | 3 |" in text
    assert "- a note" in text
    goals = update_tables.updated("<!-- table: p.json --><!-- goals -->\nold\n<!-- /table -->", tmp_path)
    assert "| data in a ResNet-18 step, % | 2 | not measured | not measured | - |" in goals
    assert "old" not in goals
    again = update_tables.updated(text, tmp_path)
    assert again == text


def test_variants_are_lines_of_the_table(tmp_path: Path) -> None:
    rows = [
        row("unadapted", "unadapted", accuracy=0.1),
        row("socket", accuracy=0.5),
        row("socket", accuracy=0.4, label="no-ti"),
        row("oracle", "centralised", accuracy=0.9, oracle=True),
    ]
    facts = {"command": "socket-owner compare", "packages": {"torch": "1"}, "cpus": 2, "device": "cpu"}
    write_results(tmp_path / "r.json", rows, experiment={}, facts=facts)
    text = update_tables.updated("<!-- table: r.json -->\n<!-- /table -->", tmp_path)
    assert "| socket | - | 50.0 (50.0) | - |\n| no-ti | - | 40.0 (40.0) | - |" in text
    assert "no-ti, federated: closes 38% of the gap" in text


def test_a_figure_in_prose_is_that_of_the_file(tmp_path: Path) -> None:
    rows = [row("socket", accuracy=0.5, seed=0), row("socket", accuracy=0.61, seed=1), row("shot", accuracy=0.1)]
    facts = {"command": "socket-owner compare", "packages": {"torch": "1"}, "cpus": 2, "device": "cpu"}
    write_results(tmp_path / "r.json", rows, experiment={}, facts=facts)
    marked = "reaches <!-- value: r.json accuracy socket federated -->99.9<!-- /value --> %"
    assert update_tables.updated(marked, tmp_path) == marked.replace("99.9", "55.5")
    with pytest.raises(ValueError, match="has no 'accuracy tgkt federated'"):
        update_tables.updated(marked.replace("socket", "tgkt"), tmp_path)
    with pytest.raises(ValueError, match="has no 'speed socket federated'"):
        update_tables.updated(marked.replace("accuracy", "speed"), tmp_path)


def test_the_share_of_the_largest_class_is_of_true_labels() -> None:
    path = update_tables.ROOT / "docs" / "results" / "demo.json"
    of_class = [sum(counts) for counts in read_results(path)[0][0].confusion]
    assert set(of_class) == {of_class[0]}  # the scenes are balanced
    assert update_tables.value(path, "largest-class") == f"{100 / len(of_class):.0f}"
