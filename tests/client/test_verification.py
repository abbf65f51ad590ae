"""An auditor's checks: ledger, journal and kept state tell one story, or the check that they do not says so."""

from __future__ import annotations

import shutil
import sqlite3
from pathlib import Path

import pytest

from client.evidence_format import CHECKS
from client.journal import Journal
from client.verification import verify
from socket_core.errors import PrivacyError
from socket_core.privacy.accounting import Event
from socket_core.privacy.ledger import Ledger, Limits
from tests.client.auditing import Asked, remove
from tests.server.builders import World

EVENT = Event(2.0, 0.5, 1)


@pytest.fixture(scope="module")
def trained(world: World, tmp_path_factory: pytest.TempPathFactory) -> Asked:
    """A site that has sent updates of two rounds; nobody changes it."""
    asked = Asked(world, tmp_path_factory.mktemp("trained"))
    for round_ in (1, 2):
        asked.train(round_)
    return asked


@pytest.fixture
def asked(trained: Asked, world: World, tmp_path: Path) -> Asked:
    """The same with files of its own."""
    own = Asked(world, tmp_path)
    shutil.rmtree(own.site.store.home)
    shutil.copytree(trained.site.store.home, own.site.store.home)
    return own


def update_without_charge(asked: Asked, round_: int, pairs: str = "dp") -> None:
    """An update in the journal that no charge went before."""
    journal = Journal(asked.site.journal_file)
    entry = next(e for e in journal.read() if e["kind"] == "Update")
    journal.write(entry | {"round": round_, "pairs": pairs})


def test_sound_books_pass_and_each_sentence_says_of_what(trained: Asked) -> None:
    found = verify(trained.site)
    assert tuple(check.name for check in found.checks) == CHECKS
    assert [check.status for check in found.checks] == ["ok", "not checked", *["ok"] * 6]
    assert [check.text for check in found.checks][4] == (
        "2 updates of 1 jobs with DP left, each after its charge; 2 charges"
    )
    assert found.audit is not None
    assert [(c.about["round"], c.about["left"], c.about["scope"]) for c in found.charges] == [
        (1, 1, "bottleneck"),
        (2, 2, "bottleneck"),
    ]
    found.insist()


def test_a_charge_without_an_update_is_allowed(asked: Asked) -> None:
    about: dict[str, str | float] = {"round": 3, "left": 3, "left_mark": Journal(asked.site.journal_file).mark()[1]}
    Ledger(asked.site.ledger_file).account([b"x"], "job-1", Limits(100.0, 1e-5), about).charge(EVENT)
    assert asked.failed() == []
    assert asked.check("updates_were_charged").text.endswith("3 charges")


@pytest.mark.parametrize("round_", [2, 3])
def test_an_update_without_a_charge_of_its_own_fails(asked: Asked, round_: int) -> None:
    update_without_charge(asked, round_)
    check = asked.check("updates_were_charged")
    assert check.status == "failed"
    assert f"round {round_} of job-1 (message 4) is number {2 if round_ == 2 else 1}" in check.text
    with pytest.raises(PrivacyError, match="updates_were_charged"):
        verify(asked.site).insist()


def test_a_charge_that_was_made_afterwards_does_not_count(asked: Asked) -> None:
    update_without_charge(asked, 3)
    left, mark = Journal(asked.site.journal_file).mark()
    about: dict[str, str | float] = {"round": 3, "left": left, "left_mark": mark}
    Ledger(asked.site.ledger_file).account([b"x"], "job-1", Limits(100.0, 1e-5), about).charge(EVENT)
    assert asked.failed() == ["updates_were_charged"]
    update_without_charge(asked, 3)
    assert "is number 1; 0 charges" in asked.check("updates_were_charged").text


def test_an_update_without_dp_in_a_job_with_dp_fails(asked: Asked) -> None:
    asked.train(3, privacy=None)
    assert asked.failed() == ["updates_were_charged", "kept_state_was_charged"]
    assert "left without DP" in asked.check("updates_were_charged").text


def test_a_ledger_that_was_deleted_whole_leaves_updates_without_charge(asked: Asked) -> None:
    remove(asked.site.ledger_file)
    assert asked.check("ledger_chain").status == "not checked"
    assert asked.failed() == ["updates_were_charged", "kept_state_was_charged"]


def test_a_journal_that_was_deleted_whole_is_missed_by_the_ledger(asked: Asked) -> None:
    remove(asked.site.journal_file)
    assert asked.failed() == ["journal_is_the_same"]
    assert "the journal has 0" in asked.check("journal_is_the_same").text
    for _ in range(5):  # as long as it was, and longer: it still is another
        asked.enrol()
    assert asked.failed() == ["journal_is_the_same"]
    assert "is not the one" in asked.check("journal_is_the_same").text


def test_a_journal_that_was_set_back_is_missed_by_the_ledger(asked: Asked, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(asked.site.store.home, copy)
    asked.enrol()
    asked.train(3)
    for end in (".sqlite", ".key", ".head"):
        shutil.copy(copy / f"egress{end}", asked.site.journal_file.with_suffix(end))
    assert asked.failed() == ["journal_is_the_same"]


def test_a_ledger_that_was_set_back_leaves_rounds_without_charge(asked: Asked, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(asked.site.store.home, copy)
    asked.train(3)
    for end in (".sqlite", ".key", ".head"):
        shutil.copy(copy / f"ledger{end}", asked.site.ledger_file.with_suffix(end))
    assert asked.failed() == ["updates_were_charged", "kept_state_was_charged"]


@pytest.mark.parametrize("which", ["ledger", "journal"])
def test_what_needs_a_chain_that_is_broken_is_not_called_ok(asked: Asked, which: str) -> None:
    path = asked.site.ledger_file if which == "ledger" else asked.site.journal_file
    with sqlite3.connect(path) as database:
        database.execute("DELETE FROM entries WHERE seq = 1")
    database.close()
    found = {check.name: check for check in verify(asked.site).checks}
    assert found[f"{which}_chain"].status == "failed"
    for name in CHECKS[3:7]:
        assert (found[name].status, found[name].text) == ("not checked", f"{which}_chain failed")


def test_state_of_a_round_that_was_never_charged_fails(asked: Asked) -> None:
    folder = asked.site.store.home / "jobs" / "job-1"
    shutil.copy(folder / "round-00002.safetensors", folder / "round-00009.safetensors")
    assert asked.failed() == ["kept_state_was_charged"]
    assert "after round 9 of job-1" in asked.check("kept_state_was_charged").text


def test_without_kept_state_it_says_so_and_is_not_ok(asked: Asked) -> None:
    shutil.rmtree(asked.site.store.home / "jobs")
    check = asked.check("kept_state_was_charged")
    assert (check.status, check.text[:22]) == ("not checked", "no BatchNorm state of ")


def test_a_site_that_trained_without_dp_is_told_so(world: World, tmp_path: Path) -> None:
    asked = Asked(world, tmp_path, private=False)
    asked.train()
    found = verify(asked.site)
    assert found.audit is None
    assert {check.name: check.status for check in found.checks if check.status == "ok"} == {"journal_chain": "ok"}
    assert not found.failed
    assert "1 updates were trained on TI pairs WITHOUT DP" in asked.check("nothing_of_pairs_without_dp").text
    assert "1 further jobs" in asked.check("kept_state_was_charged").text
