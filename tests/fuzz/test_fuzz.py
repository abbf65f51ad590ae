"""A few inputs for each decoder; ``make fuzz`` tries a hundred thousand."""

from __future__ import annotations

import random
import warnings
from pathlib import Path

import pytest

from tests.fuzz.mutate import mutate
from tests.fuzz.run import shares, try_target
from tests.fuzz.samples import Samples
from tests.fuzz.targets import Target, targets


def test_only_documented_errors_come_out(tmp_path: Path) -> None:
    found = targets(Samples(tmp_path))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of libraries about broken images
        outcomes = {target.name: try_target(target, 40, seed=1) for target in found}
    assert {name: outcome.findings for name, outcome in outcomes.items() if outcome.findings} == {}
    assert len(outcomes) == len(found) == 31
    assert all(outcome.refused for outcome in outcomes.values())  # damage is damage


def test_a_decoder_that_breaks_down_is_found() -> None:
    outcome = try_target(Target("fragile", [b"sound"], lambda data: data.decode("ascii")), 200, seed=0)
    assert outcome.findings
    assert {what.split(":")[0] for what, _ in outcome.findings} == {"UnicodeDecodeError"}


def test_sound_input_that_is_refused_is_a_fault_of_the_target() -> None:
    with pytest.raises(ZeroDivisionError):
        try_target(Target("refuses", [b"sound"], lambda data: 1 // 0), 1, seed=0)


def test_damage_is_the_same_for_the_same_seed() -> None:
    one, two = ([mutate(random.Random(7), [b"abc", b"defgh"]) for _ in range(3)] for _ in range(2))
    assert one == two


def test_inputs_are_shared_out() -> None:
    found = shares([Target("a", [], print), Target("b", [], print, share=0.25)], 1000)
    assert found == {"a": 801, "b": 201}
