"""The page of all keys says what the models say, and says something of each key."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from socket_core.config import Experiment

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts"))

import key_reference


def test_the_page_is_current() -> None:
    assert key_reference.main(["--check"]) == 0


def test_each_key_has_a_meaning() -> None:
    without = [
        key for _, _, model in key_reference.FILES for key, field in key_reference.keys(model) if not field.description
    ]
    assert without == []


@pytest.mark.parametrize(
    ("key", "kind", "default"),
    [
        ("seed", "whole number, >= 0", "`0`"),
        ("data.flip", "true or false", "`true`"),
        ("data.classes", "list", "none"),
        ("data.target_std", "list", "none"),
        ("method.trust", "always or agreement", "`agreement`"),
        ("privacy.sample_rate", "number, > 0, <= 1", "*required*"),
        ("privacy.epsilon", "number, > 0", "none"),
        ("further_sources[].name", "text", "*required*"),
    ],
)
def test_a_line_says_type_bounds_and_default(key: str, kind: str, default: str) -> None:
    field = dict(key_reference.keys(Experiment))[key]
    assert (key_reference.kind(field), key_reference.default(field)) == (kind, default)


def test_a_page_that_is_not_current_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(key_reference, "HEAD", "another")
    assert key_reference.main(["--check"]) == 1
