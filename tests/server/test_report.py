"""Tables and notes: rows go by their label, differences by their seed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from server import report
from server.results import Row
from tests.server.rows import row


def by_seed(method: str, *accuracies: float, label: str = "") -> list[Row]:
    return [row(method, seed=i, accuracy=a, label=label) for i, a in enumerate(accuracies)]


def test_variants_of_one_method_are_lines_of_their_own() -> None:
    rows = [
        row("unadapted", "unadapted", accuracy=0.1),
        *by_seed("socket", 0.5, 0.7),
        *by_seed("socket", 0.2, 0.4, label="no-ti"),
        row("oracle", "centralised", accuracy=0.9, oracle=True),
        row("oracle", "centralised", accuracy=0.8, oracle=True, label="oracle-iid"),
    ]
    assert report.table_lines(rows) == [
        ("unadapted", "10.0", "10.0", "10.0"),
        ("socket", "-", "60.0 ± 14.1 (60.0)", "-"),
        ("no-ti", "-", "30.0 ± 14.1 (30.0)", "-"),
        ("oracle (uses target labels)", "-", "-", "90.0"),
        ("oracle-iid (uses target labels)", "-", "-", "80.0"),
    ]


def test_the_gap_is_closed_by_label_and_not_by_bounds() -> None:
    rows = [
        row("unadapted", "unadapted", accuracy=0.1),
        row("socket", accuracy=0.5),
        row("socket", accuracy=0.3, label="no-ti"),
        row("oracle", "centralised", accuracy=0.9, oracle=True),
        row("oracle", "centralised", accuracy=0.8, oracle=True, label="oracle-iid"),
    ]
    assert report.gap_closed(rows) == [
        "socket, federated: closes 50% of the gap from unadapted to supervised",
        "no-ti, federated: closes 25% of the gap from unadapted to supervised",
    ]


def test_each_plain_method_is_set_against_the_one_before_it() -> None:
    rows = [
        row("unadapted", "unadapted", 0, accuracy=0.1),
        row("unadapted", "unadapted", 1, accuracy=0.2),
        *by_seed("shot", 0.3, 0.5),
        *by_seed("socket", 0.25, 0.25),
        *by_seed("socket", 0.9, 0.9, label="variant"),
        row("oracle", "centralised", accuracy=1.0, oracle=True),
    ]
    assert report.steps_up(rows) == [
        "shot - unadapted, federated: +25.0 points (95 % interval -38.5 to +88.5, 2 seeds): within noise",
        "socket - shot, federated: -15.0 points (95 % interval -142.1 to +112.1, 2 seeds): within noise",
    ]
    assert report.steps_up(rows[:1] + rows[2:3]) == [
        "shot - unadapted, federated: +20.0 points (one seed: its noise is not known)"
    ]
    assert report.steps_up(rows[:1]) == []


def test_curves_are_as_long_as_the_longest() -> None:
    short, long = (replace(row("socket", seed=i), curve=c) for i, c in enumerate(((0.1, 0.4), (0.1, 0.2, 0.3))))
    assert report.padded_curves([short, long]) == [[0.1, 0.4, 0.4], [0.1, 0.2, 0.3]]


def test_a_collapsed_row_is_warned_about() -> None:
    rows = [
        row("shot"),
        row("shot", "local", 2, collapsed=True, classes_predicted=1, prediction_entropy=0.0, label="no-im"),
        row("socket", seed=1, collapsed=True),
    ]
    assert report.collapses(rows) == [
        "warning: no-im, local, seed 2 collapsed: 1 of 2 classes predicted, entropy 0.00 of 1",
        "warning: socket, federated, seed 1 collapsed: 2 of 2 classes predicted",
    ]


def test_epsilon_is_named_with_its_unit_and_its_absence_too() -> None:
    plain, private = (
        row("shot", steps=5),
        row("socket", steps=5, epsilon=2.99, epsilon_unit="record-level; delta 1e-05"),
    )
    sentences = report.privacy([plain, private])
    assert sentences[0].startswith(
        "socket, federated: epsilon 2.99 for the whole job at each site (record-level; delta"
    )
    assert "task-relevant images are not covered" in sentences[0]
    assert "unbounded" in sentences[1]
    assert report.privacy([private]) == sentences[:1]
    assert report.privacy([row("unadapted", "unadapted")]) == []


def test_epsilons_of_two_units_stand_side_by_side_and_the_seed_that_spent_most_counts() -> None:
    both: dict[str, Any] = {
        "epsilon": 2.99,
        "epsilon_unit": "record-level; delta 1e-05",
        "site_epsilon_unit": "whole site; delta 1e-05",
    }
    rows = [
        row("socket", seed=seed, steps=5, site_epsilon=eps, **both) for seed, eps in ((0, 7.5), (1, 9.25), (2, 8.0))
    ]
    sentences = report.privacy(rows)
    assert len(sentences) == 3
    assert sentences[0].startswith("socket, federated: epsilon 2.99 for the whole job at each site (record-level")
    assert sentences[1].startswith(
        "socket, federated: epsilon 9.25 for all global models of the job (whole site; delta"
    )
    assert "must not be added" in sentences[2]
    alone = report.privacy([row("shot", steps=5, site_epsilon=7.5, site_epsilon_unit="whole site")])
    assert len(alone) == 1
    assert "unbounded" not in alone[0]
