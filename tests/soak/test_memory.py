"""The slope that the soak reports."""

from __future__ import annotations

import os

import pytest

from tests.soak.memory import Sizes, resident_mb, slope_within


def test_a_restart_is_no_growth_and_no_shrinking() -> None:
    lives = [[(1, 100.0), (2, 102.0), (3, 104.0)], [(4, 50.0), (5, 52.0)]]
    assert slope_within(lives) == pytest.approx(2.0)
    assert slope_within([[(1, 100.0)], [(2, 50.0)]]) is None


def test_what_a_process_takes_while_it_starts_does_not_count() -> None:
    sizes = Sizes()
    for done, mb in ((1, 10.0), (2, 90.0), (3, 100.0), (4, 101.0), (5, 102.0)):
        sizes.add(7, done, mb)
        sizes.add(7, done, mb + 50)  # a second figure of the same round
    assert sizes.summary() == {"mb_a_round": 1.0, "rounds": 3, "lives": 1, "largest_mb": 102}
    assert Sizes({7: [(1, 10.0), (2, 11.0), (3, 12.0)]}).summary() is None


def test_a_living_process_has_a_size() -> None:
    assert resident_mb(os.getpid()) > 10
