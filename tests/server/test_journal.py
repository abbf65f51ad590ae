"""rounds.jsonl: whole lines only, and none twice."""

from __future__ import annotations

from pathlib import Path

import pytest

from server.journal import Journal


def test_lines_are_read_as_they_were_appended(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "job" / "rounds.jsonl")
    assert journal.read() == []
    assert journal.rounds() == 0
    for round_ in (1, 2):
        journal.append({"round": round_, "sites": ["é"]})
    assert journal.read() == [{"round": 1, "sites": ["é"]}, {"round": 2, "sites": ["é"]}]
    assert journal.rounds() == 2


@pytest.mark.parametrize("torn", ['{"round": 3', '{"round": 3}', "{", '{"round": 3, "sites": ["nor'])
def test_a_torn_last_line_is_ignored_and_repaired(tmp_path: Path, torn: str) -> None:
    journal = Journal(tmp_path / "rounds.jsonl")
    journal.append({"round": 1})
    journal.append({"round": 2})
    with journal.path.open("a", encoding="utf-8") as file:
        file.write(torn)
    assert journal.read() == [{"round": 1}, {"round": 2}]
    assert journal.rounds() == 2
    journal.truncate(2)
    journal.append({"round": 3})
    assert journal.path.read_text() == '{"round": 1}\n{"round": 2}\n{"round": 3}\n'


def test_truncating_keeps_the_rounds_up_to_a_number(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "rounds.jsonl")
    for round_ in (1, 2, 3):
        journal.append({"round": round_})
    journal.truncate(1)
    assert journal.read() == [{"round": 1}]
    journal.truncate(0)
    assert journal.read() == []


def test_truncating_a_missing_journal_makes_an_empty_one(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "rounds.jsonl")
    journal.truncate(5)
    assert journal.path.read_bytes() == b""


def test_scores_follow_the_file_and_are_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = Journal(tmp_path / "rounds.jsonl")
    records = [{"round": r, "validation": {"mean": r / 4}, "held_out": {"site": [1] * 99}} for r in (1, 2, 3)]
    journal.append(records[0])
    first = [{"round": 1, "validation": {"mean": 0.25}}]
    assert journal.scores() == first
    with monkeypatch.context() as patched:
        patched.setattr(Journal, "read", None)  # whoever reads the file again fails
        journal.append(records[1])
        journal.append({"round": 3, "sites": ["a"]})
        assert journal.scores() == [*first, {"round": 2, "validation": {"mean": 0.5}}, {"round": 3}]
    journal.truncate(1)
    assert journal.scores() == first
    assert Journal(journal.path).scores() == first
