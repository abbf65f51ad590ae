"""A report of checks: nothing ends it, the first failure is its exit code, dependent checks are skipped."""

from __future__ import annotations

import pytest

from socket_core.checks import Check, Examination, State, failed, ok, warning
from socket_core.errors import PolicyError


def _raising(error: Exception) -> Check:
    raise error


def test_the_first_failure_is_the_exit_code() -> None:
    found = Examination()
    assert found.exit_code == 0
    found.run("a", lambda: ok("a", "fine"))
    found.run("b", lambda: warning("b", "odd", "look"))
    assert found.exit_code == 0
    found.run("c", lambda: failed("c", "broken", "mend", 7))
    found.run("d", lambda: failed("d", "broken", "mend", 3))
    assert found.exit_code == 7
    assert found.counts == {"ok": 1, "warning": 1, "failed": 2, "skipped": 0}


@pytest.mark.parametrize(
    ("state", "later"), [("ok", "ok"), ("warning", "ok"), ("failed", "skipped"), ("skipped", "skipped")]
)
def test_what_depends_on_a_failure_is_skipped_with_the_reason(state: State, later: State) -> None:
    found = Examination([Check("first", state, "x")])
    check = found.run("second", lambda: ok("second", "fine"), after=["first", "unheard of"])
    assert check.state == later
    assert ("first" in check.found) == (later == "skipped")
    assert found.run("third", lambda: ok("third", "fine"), after=["second"]).state == later


def test_an_error_of_ours_becomes_a_failure_with_its_remedy_and_code_but_not_its_place() -> None:
    error = PolicyError("refused", where="/srv/images/private.png", remedy="ask")
    assert Examination().run("policy", lambda: _raising(error)) == Check("policy", "failed", "refused", "ask", 7)


def test_an_unexpected_error_becomes_a_failure_that_says_its_type_alone() -> None:
    found = Examination()
    check = found.run("images", lambda: _raising(OSError(2, "gone", "/srv/images/private.png")))
    assert (check.state, check.exit_code) == ("failed", 1)
    assert "FileNotFoundError" in check.found
    assert "private" not in "\n".join(found.lines()) + str(found.plain())


def test_the_table_and_json_say_the_same() -> None:
    found = Examination([ok("long name", "fine"), failed("b", "broken", "mend", 4)])
    assert found.lines() == [
        "ok       long name  fine",
        "failed   b          broken",
        "                    What to do: mend",
        "",
        "1 ok, 1 failed",
    ]
    plain = found.plain()
    assert plain["exit_code"] == 4
    assert plain["checks"][0]["exit_code"] == 0
    assert plain["checks"][1] == {"name": "b", "state": "failed", "found": "broken", "remedy": "mend", "exit_code": 4}
