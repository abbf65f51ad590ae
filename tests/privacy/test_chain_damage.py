"""Damage that fuzzing has found: whatever a book's files hold, only the documented error comes out."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from socket_core.errors import PrivacyError
from socket_core.privacy.accounting import Event
from socket_core.privacy.ledger import Ledger, Limits


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A ledger with one charge on two pairs."""
    made = tmp_path / "ledger.sqlite"
    Ledger(made).account([b"a", b"b"], "job", Limits(100.0, 1e-5)).charge(Event(2.0, 0.5, 1))
    return made


def execute(path: Path, statement: str) -> None:
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("PRAGMA ignore_check_constraints = ON")
        database.execute(statement)


def head(path: Path, code: str) -> None:
    path.with_suffix(".head").write_text(json.dumps({"count": 2, "code": code}))


DAMAGE: dict[str, Callable[[Path], None]] = {
    "a body that is no text": lambda p: execute(p, "UPDATE entries SET body = x'ff00' WHERE seq = 1"),
    "a code that is no text": lambda p: execute(p, "UPDATE entries SET code = x'ff00' WHERE seq = 2"),
    "text that is no UTF-8": lambda p: execute(p, "UPDATE entries SET body = CAST(x'ff80' AS TEXT) WHERE seq = 1"),
    "a code with other letters": lambda p: execute(p, "UPDATE entries SET code = 'ä' WHERE seq = 2"),
    "a tag that is text": lambda p: execute(p, "UPDATE tags SET tag = 'text' WHERE tag = (SELECT min(tag) FROM tags)"),
    "a head with other letters": lambda p: head(p, "ä"),
    "a head with half a character": lambda p: head(p, "\ud800"),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE.keys())
def test_it_is_refused_in_the_documented_way(path: Path, damage: Callable[[Path], None]) -> None:
    damage(path)
    with pytest.raises(PrivacyError):
        Ledger(path, create=False).charges()
