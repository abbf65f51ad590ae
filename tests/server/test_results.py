"""Results files keep what was measured, and those of earlier schemas are still read."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from server.by_site import AtSite
from server.examples import Said
from server.results import SCHEMA_VERSION, read_results, write_results
from socket_core.errors import FederationError
from tests.server.rows import row


def test_what_was_written_is_read_again(tmp_path: Path) -> None:
    rows = [row("socket", label="no-ti", prediction_entropy=0.25, partition="iid"), row("unadapted")]
    write_results(tmp_path / "r.json", rows, experiment={"name": "x"}, facts={"command": "c"})
    again, rest = read_results(tmp_path / "r.json")
    assert again == rows
    assert (rest["schema_version"], rest["command"]) == (SCHEMA_VERSION, "c")


AT = AtSite("site-00", 0.75, None, (3, 4), (5, 6))
EXAMPLES = {"rule": "r", "indices": [4, 7], "labels": [0, 1], "columns": ["depth"]}


def test_sites_and_predictions_are_read_again(tmp_path: Path) -> None:
    said = Said("site-00", (1, 0), (0.5, 0.75))
    rows = [row("socket", by_site=(AT,), said=(said,)), row("unadapted", "unadapted")]
    facts = {"classes": ["a", "b"], "examples": EXAMPLES}
    write_results(tmp_path / "r.json", rows, experiment={}, facts=facts)
    again, rest = read_results(tmp_path / "r.json")
    assert again == rows
    assert rest["examples"] == EXAMPLES


def test_the_second_schema_is_read_without_sites_and_examples(tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    write_results(path, [row("socket")], experiment={}, facts={})
    content = json.loads(path.read_text()) | {"schema_version": 2}
    for key in ("by_site", "said"):
        del content["rows"][0][key]
    path.write_text(json.dumps(content))
    (old,), _ = read_results(path)
    assert (old.by_site, old.said) == ((), ())


AT_JSON = {"site": "site-00", "accuracy": 0.5, "transductive": None, "images": [1, 2], "predicted": [3, 4]}
SAID_JSON = {"site": "", "predicted": [1, 0], "probability": [0.5, 0.75]}


@pytest.mark.parametrize(
    ("row_change", "change", "message"),
    [
        ({"by_site": [AT_JSON | {"images": [1, 2, 3]}]}, {}, "images of 3 classes, predictions of 2"),
        ({"by_site": [AT_JSON | {"images": [1], "predicted": [1]}]}, {}, "1 classes, confusion has 2"),
        ({"by_site": [AT_JSON | {"images": [1, -2]}]}, {}, "expected counts from 0, found -2"),
        ({"by_site": [AT_JSON, AT_JSON]}, {}, "a site is there twice"),
        ({"by_site": [{"site": "site-00"}]}, {}, "rows.0.by_site.0.accuracy"),
        ({"said": [SAID_JSON | {"predicted": [1, 2]}]}, {}, "predictions of classes 0 to 1"),
        ({"said": [SAID_JSON | {"probability": [0.5]}]}, {}, "2 predictions, 1 probabilities"),
        ({"said": [SAID_JSON | {"probability": [0.5, 1.5]}]}, {}, "probabilities from 0 to 1"),
        ({"said": [SAID_JSON]}, {"examples": EXAMPLES | {"indices": [4], "labels": [0]}}, "other than the 1 examples"),
        ({"said": [SAID_JSON]}, {"examples": None}, "other than the 0 examples"),
        ({}, {"examples": EXAMPLES | {"labels": [0]}}, "2 examples, 1 labels"),
        ({}, {"examples": EXAMPLES | {"labels": [0, 2]}}, "examples of classes 0 to 1"),
    ],
)
def test_sites_and_examples_that_do_not_fit_are_refused(
    tmp_path: Path, row_change: dict[str, object], change: dict[str, object], message: str
) -> None:
    path = tmp_path / "r.json"
    write_results(path, [row("socket")], experiment={}, facts={"classes": ["a", "b"], "examples": EXAMPLES})
    content = json.loads(path.read_text()) | change
    content["rows"][0] |= row_change
    path.write_text(json.dumps(content))
    with pytest.raises(FederationError, match="not the results of a comparison") as caught:
        read_results(path)
    assert message in str(caught.value)


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


@pytest.mark.parametrize("version", [0, 4, None, "1"])
def test_another_schema_is_refused(tmp_path: Path, version: object) -> None:
    path = tmp_path / "r.json"
    path.write_text(json.dumps({"schema_version": version, "rows": []}))
    with pytest.raises(FederationError, match=r"schema .*, this build reads 1 to 3"):
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
