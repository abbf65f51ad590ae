"""Equal rounds are points of measured curves at equal depth."""

from __future__ import annotations

from dataclasses import replace

import pytest

from server.equal_rounds import at_equal_rounds, lines
from server.results import Mode, Row
from tests.server.rows import row

FACTS = {"experiment": {"federation": {"sites": 2, "steps": 5}}}


def _row(mode: Mode, seed: int, curve: tuple[float, ...], label: str = "socket", rounds: int = 5) -> Row:
    return replace(row("socket", mode, seed, label=label, rounds=rounds, steps=50), curve=curve)


def test_a_centralised_round_stands_against_as_many_federated_ones_as_there_are_sites() -> None:
    rows = [
        _row("federated", 0, (0.1, 0.2, 0.3, 0.4, 0.5, 0.6)),
        _row("federated", 1, (0.1, 0.2, 0.5, 0.4, 0.7, 0.6)),
        _row("centralised", 0, (0.1, 0.4, 0.6, 0.9, 0.9, 0.9)),
        _row("centralised", 1, (0.1, 0.5, 0.5, 0.9, 0.9, 0.9)),
        _row("centralised", 2, (0.0,) * 6),  # a seed that the other side lacks
    ]
    two, four = at_equal_rounds(rows, FACTS)  # a fifth round is no multiple of two
    assert (two.rounds, two.sites, four.rounds) == (2, 2, 4)
    assert two.federated == pytest.approx((30, 50))
    assert two.centralised == pytest.approx((40, 50))
    assert four.federated == pytest.approx((50, 70))
    assert four.centralised == pytest.approx((60, 50))
    assert two.difference.mean == pytest.approx(-5)
    assert lines([four])[0][:3] == ("socket", "60.0 ± 14.1 (round 4)", "55.0 ± 7.1 (round 2)")


def test_where_patience_ended_a_job_its_last_accuracy_stays() -> None:
    rows = [_row("federated", 0, (0.1, 0.3)), _row("centralised", 0, (0.1, 0.2))]
    found = at_equal_rounds(rows, FACTS)
    assert [e.rounds for e in found] == [2, 4]
    for equal in found:
        assert equal.federated == pytest.approx((30,))
        assert equal.centralised == pytest.approx((20,))


def test_a_variant_has_its_own_number_of_sites() -> None:
    rows = [_row(mode, 0, (0.1,) * 6, "six") for mode in ("federated", "centralised")]
    facts = FACTS | {"variants": {"six": {"federation": {"sites": 5}}}}
    assert [(e.rounds, e.sites) for e in at_equal_rounds(rows, facts)] == [(5, 5)]
    facts["variants"] = {"six": {"federation": {"sites": 6}}}
    assert at_equal_rounds(rows, facts) == []  # five rounds of one site are less than a centralised one


def test_what_cannot_be_compared_is_left_out() -> None:
    both = [_row(mode, 0, (0.1,) * 6) for mode in ("federated", "centralised")]
    assert at_equal_rounds(both, {}) == []  # nobody says how many sites there were
    assert at_equal_rounds(both[:1], FACTS) == []
    assert at_equal_rounds([replace(r, steps=0) for r in both], FACTS) == []
    assert at_equal_rounds([both[0], replace(both[1], seed=1)], FACTS) == []
