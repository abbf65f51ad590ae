"""Checks of a machine: what was found, whether it is right, and what to do if it is not.

A check is a function that returns a :class:`Check` and changes nothing. :class:`Examination` runs them in order, so
that the first failure explains the later ones: a check that depends on one that failed is skipped, with the reason.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from socket_core.errors import SocketError

State = Literal["ok", "warning", "failed", "skipped"]


@dataclass(frozen=True)
class Check:
    """One line of the report.

    Attributes:
        name: What was looked at.
        state: ``warning`` is worth knowing, ``failed`` has to be mended.
        found: What was found, in one sentence.
        remedy: What to do; empty if nothing.
        exit_code: Of a failed check, as in ``docs/exit-codes.md``.
    """

    name: str
    state: State
    found: str
    remedy: str = ""
    exit_code: int = 1


def ok(name: str, found: str) -> Check:
    """All is well."""
    return Check(name, "ok", found)


def warning(name: str, found: str, remedy: str) -> Check:
    """It goes on, but look at it."""
    return Check(name, "warning", found, remedy)


def failed(name: str, found: str, remedy: str, exit_code: int = 1) -> Check:
    """It has to be mended."""
    return Check(name, "failed", found, remedy, exit_code)


@dataclass
class Examination:
    """The checks run so far, in order."""

    checks: list[Check] = field(default_factory=list)

    def run(self, name: str, check: Callable[[], Check], *, after: Sequence[str] = ()) -> Check:
        """Runs one check; nothing that goes wrong inside it ends the report.

        Args:
            name: Of the check, should it not come to return.
            check: Looks and returns.
            after: Names of checks without which this one makes no sense; it is skipped if one of them has failed
                or was skipped itself.
        """
        missing = [c.name for c in self.checks if c.name in after and c.state in ("failed", "skipped")]
        if missing:
            made = Check(name, "skipped", f"needs {missing[0]} first")
        else:
            try:
                made = check()
            except SocketError as error:
                made = failed(name, error.what, error.remedy, error.exit_code)
            except Exception as error:  # the type alone: a message could hold the path of an image
                made = failed(name, f"the check itself ended with {type(error).__name__}", "report it with this line")
        self.checks.append(made)
        return made

    @property
    def exit_code(self) -> int:
        """0 if nothing failed, else the code of the first failure."""
        return next((check.exit_code for check in self.checks if check.state == "failed"), 0)

    def plain(self) -> dict[str, Any]:
        """As values that JSON knows; only a failed check has an exit code other than 0."""
        codes = [check.exit_code if check.state == "failed" else 0 for check in self.checks]
        checks = [asdict(check) | {"exit_code": code} for check, code in zip(self.checks, codes, strict=True)]
        return {"exit_code": self.exit_code, "counts": self.counts, "checks": checks}

    @property
    def counts(self) -> dict[State, int]:
        """How many checks ended how."""
        states: tuple[State, ...] = ("ok", "warning", "failed", "skipped")
        return {state: sum(check.state == state for check in self.checks) for state in states}

    def lines(self) -> list[str]:
        """As a table with a summary."""
        wide = max((len(check.name) for check in self.checks), default=0)
        out = []
        for check in self.checks:
            out.append(f"{check.state:8} {check.name:{wide}}  {check.found}")
            if check.remedy:
                out.append(f"{'':9}{'':{wide}}  What to do: {check.remedy}")
        return [*out, "", ", ".join(f"{count} {state}" for state, count in self.counts.items() if count)]
