"""What a row says of privacy is what the whole job costs, by the accountants themselves."""

from __future__ import annotations

from typing import Any

import pytest

from server.cells import Cell, _epsilon
from server.results import Mode
from socket_core.config import parse_experiment
from socket_core.privacy.accounting import Event, epsilon


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
    found, unit = _epsilon(cell(mode))
    assert found == pytest.approx(epsilon([Event(2.0, 0.5, steps)], 1e-5).claim, abs=1e-9)
    assert "record-level" in unit
    assert "add or remove one pair" in unit
    assert "delta 1e-05" in unit


def test_without_pairs_or_without_the_section_there_is_none() -> None:
    assert _epsilon(cell("federated", "shot")) == (None, "none")
    plain = Cell(parse_experiment({"method": {"name": "socket"}}, where="test"), "federated")
    assert _epsilon(plain) == (None, "none")
