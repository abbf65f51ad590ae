"""What the models of a row say of an example, all seeds and sites together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from server.results import Mode, Row, mean_and_spread

MEANING = (
    "A cell is the class that most models of the row predict, split where several tie, and how many of the models are "
    "right; there is a model for each seed, and for each site where it has its own."
)


class Votes(NamedTuple):
    """The models of one label in one mode on one example.

    Attributes:
        predicted: The class that most of them predict; None where several classes tie.
        agree: How many predict it, or each of those.
        models: How many there are.
        right: How many predict the true class.
        probability: Mean over the models of what each gives to the class that it predicts.
    """

    predicted: int | None
    agree: int
    models: int
    right: int
    probability: float


def votes(rows: Sequence[Row], example: int, label: int) -> Votes | None:
    """What ``rows``, of one label in one mode, say of an example; None if nobody was asked.

    Args:
        rows: All seeds.
        example: Which of the examples.
        label: Its true class.
    """
    said = [(one.predicted[example], one.probability[example]) for r in rows for one in r.said]
    if not said:
        return None
    classes = [k for k, _ in said]
    (first, agree), *others = Counter(classes).most_common(2)
    tied = bool(others) and others[0][1] == agree
    sure, _ = mean_and_spread([p for _, p in said])
    return Votes(None if tied else first, agree, len(said), classes.count(label), sure)


def word(found: Votes, classes: Sequence[str]) -> str:
    """Name of the class that most models predict, or that they are split."""
    return "split" if found.predicted is None else classes[found.predicted]


def asked(rows: Sequence[Row]) -> list[tuple[str, dict[Mode, list[Row]]]]:
    """Labels with rows that were asked, and these rows by mode, in the order of the rows."""
    out: dict[str, dict[Mode, list[Row]]] = {}
    for row in rows:
        if row.said:
            out.setdefault(row.label, {}).setdefault(row.mode, []).append(row)
    return list(out.items())
