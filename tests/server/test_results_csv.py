"""Rows as CSV: all flat keys, one line a row."""

from __future__ import annotations

import csv
import io
from dataclasses import fields

from server.results import Row
from server.results_csv import NESTED, csv_text
from tests.server.rows import row


def test_a_line_a_row_with_all_flat_keys() -> None:
    rows = [row("socket", seed=1, accuracy=0.123456789012345, label="a,b"), row("shot", epsilon=3.0)]
    lines = list(csv.DictReader(io.StringIO(csv_text(rows))))
    assert set(lines[0]) == {f.name for f in fields(Row)} - NESTED
    assert [line["label"] for line in lines] == ["a,b", "shot"]
    assert float(lines[0]["accuracy"]) == rows[0].accuracy
    assert (lines[0]["epsilon"], lines[1]["epsilon"], lines[0]["oracle"]) == ("", "3.0", "False")


def test_text_that_a_spreadsheet_would_run_is_made_harmless() -> None:
    (line,) = csv.DictReader(io.StringIO(csv_text([row("socket", label="=1+1", accuracy=-0.5)])))
    assert line["label"] == "'=1+1"
    assert line["accuracy"] == "-0.5"
