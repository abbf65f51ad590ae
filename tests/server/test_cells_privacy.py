"""What a row says of privacy is what the whole job costs, by the accountants themselves."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from server.arms import ArmResult
from server.cells import Cell, cell_epsilon, row_of_arms, site_epsilon
from server.results import Mode
from socket_core.config import parse_experiment
from socket_core.privacy.accounting import SITE, Event, epsilon


def cell(mode: Mode, name: str = "socket", **privacy: Any) -> Cell:
    asked = {"sigma": 2.0, "sample_rate": 0.5, "expected_batch": 4} | privacy
    raw = {
        "method": {"name": name, "trust": "always"},
        "federation": {"rounds": 3, "steps": 2, "sites": 4},
        "privacy": asked,
    }
    return Cell(parse_experiment(raw, where="test"), mode)


@pytest.mark.parametrize(("mode", "steps"), [("federated", 6), ("local", 6), ("centralised", 24)])
def test_epsilon_is_that_of_all_steps_at_one_place(mode: Mode, steps: int) -> None:
    found, unit = cell_epsilon(cell(mode))
    assert found == pytest.approx(epsilon([Event(2.0, 0.5, steps)], 1e-5).claim, abs=1e-9)
    assert "record-level" in unit
    assert "add or remove one pair" in unit
    assert "delta 1e-05" in unit


def test_without_pairs_or_without_the_section_there_is_none() -> None:
    assert cell_epsilon(cell("federated", "shot")) == (None, "none")
    plain = Cell(parse_experiment({"method": {"name": "socket"}}, where="test"), "federated")
    assert cell_epsilon(plain) == (None, "none")


# --- of a whole site --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("noise", "said"), [("server", "noise at the owner"), ("sites", "sigma 1.5 towards the owner")]
)
def test_epsilon_of_a_site_is_that_of_the_rounds_charged(noise: str, said: str) -> None:
    raw = {
        "federation": {"rounds": 3, "sites": 4, "quorum": 4, "weighting": "equal"},
        "site_privacy": {"clip": 1.0, "sigma": 3.0, "noise": noise, "spare_rounds": 2},
    }
    records = [{"site_privacy": {"charged": charged}} for charged in (1, 3, 4)]  # the second round was done twice
    found, unit = site_epsilon(parse_experiment(raw, where="test"), records)
    assert found == epsilon([Event(3.0, 1.0, 4)], 1e-5, SITE).claim
    for words in ("whole site", "add or remove one site", "delta 1e-05", said):
        assert words in unit


def test_without_protection_there_is_no_epsilon_of_a_site() -> None:
    assert site_epsilon(parse_experiment({}, where="test"), [{"round": 1}]) == (None, "none")


@pytest.mark.parametrize("mode", ["local", "centralised"])
def test_arms_without_a_federation_claim_nothing_for_a_site(mode: Mode) -> None:
    raw = {
        "method": {"name": "shot"},
        "federation": {"weighting": "equal"},
        "site_privacy": {"clip": 1.0, "sigma": 3.0},
    }
    counts = np.eye(2, dtype=np.int64)
    part = ArmResult([counts, counts], counts, steps=1, visits=4, seconds=0.1, kept=1)
    row = row_of_arms(Cell(parse_experiment(raw, where="test"), mode), [part])
    assert (row.site_epsilon, row.site_epsilon_unit) == (None, "none")
