"""``results.csv``: the rows of a results file for a spreadsheet."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import asdict, fields

from server.results import Row

NESTED = frozenset({"curve", "confusion", "kept_rounds", "by_site", "said"})
"""Keys that no cell can hold; they are in ``results.json``."""
KEYS = tuple(f.name for f in fields(Row) if f.name not in NESTED)
FORMULA = ("=", "+", "-", "@", "\t", "\r")


def csv_text(rows: Sequence[Row]) -> str:
    """A line of keys, then one line a row; None is empty.

    Text that a spreadsheet would take for a formula gets an apostrophe in front.
    """
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(KEYS)
    for row in rows:
        values = asdict(row)
        writer.writerow([_harmless(values[key]) for key in KEYS])
    return out.getvalue()


def _harmless(value: object) -> object:
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA) else value
