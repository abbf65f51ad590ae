"""The budget ledger: it survives, it is shared, it refuses in time, and it notices what is done to it."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from socket_core.errors import PrivacyError
from socket_core.privacy import chain
from socket_core.privacy.accounting import Event, rdp_epsilon
from socket_core.privacy.ledger import BudgetError, Ledger, Limits

ROUND = Event(1.0, 0.05, 20)
RECORDS = [b"one", b"two", b"three"]
DELTA = 1e-5
AMPLE = Limits(100.0, DELTA)


def limits_for(rounds: int) -> Limits:
    """Exactly enough for so many rounds."""
    return Limits(rdp_epsilon([ROUND] * rounds, DELTA), DELTA)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "home" / "ledger.sqlite"


def test_it_refuses_exactly_the_round_that_would_pass_the_cap_and_writes_nothing(path: Path) -> None:
    account = Ledger(path).account(RECORDS, "job", limits_for(3))
    for _ in range(3):
        account.charge(ROUND, clip=1.0)
    with pytest.raises(BudgetError, match="the site allows") as caught:
        account.charge(ROUND)
    assert caught.value.where == "policy.privacy.epsilon"
    assert [charge.event for charge in Ledger(path).charges()] == [ROUND] * 3


def test_another_run_after_a_restart_goes_on_where_the_last_one_stopped(path: Path) -> None:
    Ledger(path).account(RECORDS, "first", limits_for(2)).charge(ROUND)
    again = Ledger(path).account(reversed(RECORDS), "second", limits_for(2))
    again.charge(ROUND)
    with pytest.raises(BudgetError):
        again.charge(ROUND)


def test_a_data_set_with_one_more_image_does_not_begin_anew(path: Path) -> None:
    Ledger(path).account(RECORDS, "first", AMPLE).charge(ROUND)
    with pytest.raises(BudgetError):
        Ledger(path).account([*RECORDS, b"four"], "second", limits_for(1)).charge(ROUND)


def test_other_records_have_a_budget_of_their_own(path: Path) -> None:
    Ledger(path).account(RECORDS, "first", AMPLE).charge(ROUND)
    Ledger(path).account([b"others"], "second", limits_for(1)).charge(ROUND)


def test_a_run_may_set_a_limit_of_its_own(path: Path) -> None:
    own = Limits(100.0, DELTA, job_epsilon=limits_for(1).epsilon, job_delta=DELTA)
    ledger = Ledger(path)
    ledger.account(RECORDS, "a", AMPLE).charge(ROUND)
    ledger.account(RECORDS, "b", own).charge(ROUND)
    with pytest.raises(BudgetError, match="the run allows"):
        ledger.account(RECORDS, "b", own).charge(ROUND)


def test_writers_at_the_same_time_do_not_pass_the_cap_together(path: Path) -> None:
    Ledger(path)

    def charge(_: int) -> bool:
        try:
            Ledger(path).account(RECORDS, "job", limits_for(3)).charge(ROUND)
        except BudgetError:
            return False
        return True

    with ThreadPoolExecutor(6) as pool:
        assert sum(pool.map(charge, range(6))) == 3
    assert len(Ledger(path).charges()) == 3


def test_another_process_is_waited_for_and_then_named(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    account = Ledger(path).account(RECORDS, "job", AMPLE)
    monkeypatch.setattr(chain, "WAIT_SECONDS", 0.1)
    hold = "import fcntl, sys; f = open(sys.argv[1], 'a'); fcntl.flock(f, 2); print('held', flush=True); input()"
    command = [sys.executable, "-c", hold, str(path.with_suffix(".lock"))]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdin is not None
        assert other.stdout is not None
        other.stdout.readline()
        with pytest.raises(PrivacyError, match="another process"):
            account.charge(ROUND)
        other.stdin.write(b"\n")
    account.charge(ROUND)


def test_a_crash_between_entry_and_head_loses_nothing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = Ledger(path)
    account = ledger.account(RECORDS, "job", limits_for(1))

    def crash(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(ledger._chain, "_write_head", crash)
        with pytest.raises(KeyboardInterrupt):
            account.charge(ROUND)
    with pytest.raises(BudgetError):
        Ledger(path).account(RECORDS, "job", limits_for(1)).charge(ROUND)


def _sql(command: str) -> Callable[[Path], None]:
    def run(path: Path) -> None:
        with sqlite3.connect(path) as database:
            database.execute(command)
        database.close()

    return run


def _truncate(path: Path) -> None:
    for side in ("-wal", "-shm"):
        path.with_name(path.name + side).unlink(missing_ok=True)
    path.write_bytes(path.read_bytes()[:5000])


DAMAGE: dict[str, Callable[[Path], object]] = {
    "database deleted": Path.unlink,
    "key deleted": lambda path: path.with_suffix(".key").unlink(),
    "head deleted": lambda path: path.with_suffix(".head").unlink(),
    "key replaced": lambda path: path.with_suffix(".key").write_bytes(b"k" * 32),
    "last entry deleted": _sql("DELETE FROM entries WHERE seq = (SELECT max(seq) FROM entries)"),
    "first entry deleted": _sql("DELETE FROM entries WHERE seq = 1"),
    "more noise claimed": _sql("UPDATE entries SET body = replace(body, '1.0', '9.0') WHERE seq = 2"),
    "entries swapped": _sql("UPDATE entries SET seq = -seq"),
    "records deleted": _sql("DELETE FROM tags"),
    "file cut": _truncate,
    "file overwritten": lambda path: path.write_bytes(b"not a database" * 100),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE.keys())
def test_a_ledger_that_was_tampered_with_is_refused(path: Path, damage: Callable[[Path], object]) -> None:
    Ledger(path).account(RECORDS, "job", AMPLE).charge(ROUND)
    damage(path)
    with pytest.raises(PrivacyError) as caught:
        Ledger(path).account(RECORDS, "job", AMPLE).charge(ROUND)
    assert not isinstance(caught.value, BudgetError)
    assert caught.value.where == str(path)


def test_asking_to_read_does_not_start_one(path: Path) -> None:
    with pytest.raises(PrivacyError, match="no ledger"):
        Ledger(path, create=False)
    assert not path.exists()


def test_the_key_is_the_users_alone_and_record_digests_are_not_in_the_clear(path: Path) -> None:
    Ledger(path).register([b"a record's digest"])
    assert path.with_suffix(".key").stat().st_mode & 0o077 == 0
    assert path.stat().st_mode & 0o077 == 0
    assert b"a record's digest" not in path.read_bytes()
