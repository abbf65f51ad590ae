"""Results files keep what was measured, and those of the first schema are still read."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from server.results import SCHEMA_VERSION, read_results, write_results
from socket_core.errors import FederationError
from tests.server.rows import row


def test_what_was_written_is_read_again(tmp_path: Path) -> None:
    rows = [row("socket", label="no-ti", prediction_entropy=0.25, partition="iid"), row("unadapted")]
    write_results(tmp_path / "r.json", rows, experiment={"name": "x"}, facts={"command": "c"})
    again, rest = read_results(tmp_path / "r.json")
    assert again == rows
    assert (rest["schema_version"], rest["command"]) == (SCHEMA_VERSION, "c")


def test_a_label_is_the_methods_name_where_none_is_given() -> None:
    assert row("shot").label == "shot"
    assert row("shot", label="mine").label == "mine"


def test_the_first_schema_is_read_with_defaults(tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    write_results(path, [row("socket", partition="iid", prediction_entropy=0.9)], experiment={}, facts={})
    content = json.loads(path.read_text())
    content["schema_version"] = 1
    for key in ("label", "prediction_entropy", "partition"):
        del content["rows"][0][key]
    path.write_text(json.dumps(content))
    (old,), _ = read_results(path)
    assert (old.label, old.prediction_entropy, old.partition) == ("socket", None, "")


@pytest.mark.parametrize("version", [0, 3, None, "1"])
def test_another_schema_is_refused(tmp_path: Path, version: object) -> None:
    path = tmp_path / "r.json"
    path.write_text(json.dumps({"schema_version": version, "rows": []}))
    with pytest.raises(FederationError, match=r"schema .*, this build reads 1 to 2"):
        read_results(path)


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"rows": None}, "rows"),
        ({"rows": [{"method": "socket"}]}, "rows.0.mode"),
        ({"variants": ["x"]}, "variants"),
        ({"classes": {"a": 1}}, "classes"),
    ],
)
def test_what_is_no_comparison_is_refused_with_its_place(tmp_path: Path, change: dict[str, object], where: str) -> None:
    path = tmp_path / "r.json"
    write_results(path, [row("socket")], experiment={}, facts={})
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(FederationError, match="not the results of a comparison") as caught:
        read_results(path)
    assert f"r.json, {where}" in str(caught.value)


def test_json_of_another_kind_is_refused(tmp_path: Path) -> None:
    (tmp_path / "r.json").write_text("[1]")
    with pytest.raises(FederationError, match="results schema None"):
        read_results(tmp_path / "r.json")


@pytest.mark.parametrize("name", ["demo.json", "nyuv2.json"])
def test_committed_results_can_be_read(name: str) -> None:
    rows, _ = read_results(Path(__file__).resolve().parents[2] / "docs" / "results" / name)
    assert {r.label for r in rows} >= {r.method for r in rows}
