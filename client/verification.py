"""What can be checked in a site's own books: ledger, journal and kept state must tell one story.

Every check ends ``ok``, ``failed`` or ``not checked``, with a sentence. What cannot be checked is never ``ok``.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import asdict, dataclass, field
from typing import Any

from client.audit import audit, audit_whole_site, check_cap
from client.evidence_format import Status
from client.journal import Journal
from client.site import Site
from socket_core.errors import PolicyError, PrivacyError
from socket_core.privacy.chain import Chain
from socket_core.privacy.ledger import Charge, Ledger


@dataclass(frozen=True)
class Check:
    """One check: its name, how it ended, and why in a sentence."""

    name: str
    status: Status
    text: str


@dataclass(frozen=True)
class Verification:
    """The books of a site and what checking them found.

    Attributes:
        checks: In the order of :func:`verify`.
        audit: What :func:`client.audit.audit` found; None if there is no sound ledger.
        whole_site: What :func:`client.audit.audit_whole_site` found, likewise.
        charges: All that was charged.
        left: The journal's entries.
    """

    checks: tuple[Check, ...]
    audit: dict[str, Any] | None
    whole_site: dict[str, Any] | None
    charges: tuple[Charge, ...]
    left: tuple[dict[str, Any], ...]

    @property
    def failed(self) -> tuple[Check, ...]:
        """The checks that failed."""
        return tuple(check for check in self.checks if check.status == "failed")

    def plain(self) -> list[dict[str, str]]:
        """The checks as plain values."""
        return [asdict(check) for check in self.checks]

    def insist(self) -> None:
        """Refuses books that do not hold.

        Raises:
            PrivacyError: Naming the first check that failed.
        """
        if self.failed:
            first = self.failed[0]
            raise PrivacyError(
                f"{len(self.failed)} of {len(self.checks)} checks failed; first {first.name}: {first.text}",
                where="audit",
                remedy="find out what changed the site's files; docs/privacy.md says what each check means",
            )


def verify(site: Site) -> Verification:
    """Checks a site's ledger, journal and kept state, each and against each other. Never raises for what it finds."""
    books = _Books(site)
    checks = (
        books.ledger,
        books.site_ledger,
        books.journal,
        _same_journal(books),
        _updates_charged(books),
        _without_dp(books),
        _kept_state(books),
        _within_policy(books),
    )
    return Verification(checks, books.audit, books.whole_site, tuple(books.charges), tuple(books.left))


@dataclass
class _Books:
    """What can be read of the site's files, and the checks of their chains."""

    site: Site
    audit: dict[str, Any] | None = None
    whole_site: dict[str, Any] | None = None
    charges: list[Charge] = field(default_factory=list)
    left: list[dict[str, Any]] = field(default_factory=list)
    marks: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        # A round may run meanwhile, and writes charge, state, message in this order. Read backwards, no message and
        # no state lacks its charge; and the journal is as long as the last charge says when its marks are read last.
        self.journal = self._read_journal()
        self.kept = self.site.store.kept_rounds()
        self.ledger = self._read_ledger()
        self.site_ledger = self._read_site_ledger()
        if self.left:
            self.marks = Journal(self.site.journal_file, create=False).marks()

    def _read_ledger(self) -> Check:
        name, path = "ledger_chain", self.site.ledger_file
        if not Chain.begun(path):
            return Check(name, "not checked", "there is no ledger: no run with DP was charged here")
        try:
            self.audit = audit(self.site)
            self.charges = Ledger(path, create=False).charges()
        except PrivacyError as error:
            return Check(name, "failed", error.what)
        return Check(name, "ok", f"{len(self.charges)} charges, each with the code that it was written with")

    def _read_site_ledger(self) -> Check:
        name, path = "site_ledger_chain", self.site.site_ledger_file
        if not Chain.begun(path):
            return Check(name, "not checked", "there is none: no federation that protects whole sites was charged here")
        try:
            self.whole_site = audit_whole_site(self.site)
        except PrivacyError as error:
            return Check(name, "failed", error.what)
        return Check(name, "ok", f"{self.whole_site['charges']} charges, each with the code that it was written with")

    def _read_journal(self) -> Check:
        name, path = "journal_chain", self.site.journal_file
        if not Chain.begun(path):
            return Check(name, "not checked", "there is no journal: nothing was written down as having left")
        try:
            self.left = Journal(path, create=False).read()
        except PrivacyError as error:
            return Check(name, "failed", error.what)
        return Check(name, "ok", f"{len(self.left)} messages, each with the code that it was written with")

    def unreadable(self, name: str) -> Check | None:
        """The answer of a check that needs both, if one cannot be read."""
        broken = [check.name for check in (self.ledger, self.journal) if check.status == "failed"]
        return Check(name, "not checked", f"{broken[0]} failed") if broken else None


def _same_journal(books: _Books) -> Check:
    """Each charge says what the journal was then: one that was deleted or set back does not begin with that."""
    name = "journal_is_the_same"
    if broken := books.unreadable(name):
        return broken
    seen = [charge for charge in books.charges if charge.about.get("left")]
    for charge in seen:
        count = int(charge.about["left"])
        if count > len(books.marks):
            return Check(
                name,
                "failed",
                f"{count} messages had left when {_round_of(charge)} was charged, the journal has {len(books.marks)}",
            )
        if books.marks[count - 1] != charge.about.get("left_mark"):
            return Check(
                name, "failed", f"message {count} is not the one that was there when {_round_of(charge)} was charged"
            )
    if not seen:
        return Check(name, "not checked", "no charge was made after a message had left")
    return Check(name, "ok", f"{len(seen)} charges found the journal as it is now, as far as it went then")


def _updates_charged(books: _Books) -> Check:
    """As many charges as updates of each round, and the k-th update later than k of them."""
    name = "updates_were_charged"
    if broken := books.unreadable(name):
        return broken
    charged: dict[tuple[str, int], list[int]] = defaultdict(list)
    for charge in books.charges:
        if "round" in charge.about:
            charged[charge.job, int(charge.about["round"])].append(int(charge.about.get("left", len(books.left))))
    jobs, counted = {job for job, _ in charged}, 0
    sent: dict[tuple[str, int], int] = defaultdict(int)
    for position, entry in enumerate(books.left, start=1):
        job, round_ = entry["experiment"], entry["round"]
        if entry["kind"] != "Update" or (job not in jobs and entry["pairs"] != "dp"):
            continue
        what = f"the update of round {round_} of {job} (message {position})"
        if entry["pairs"] != "dp":
            return Check(name, "failed", f"{what} left without DP, in a job with DP")
        counted += 1
        sent[job, round_] += 1
        before = sum(left < position for left in charged[job, round_])
        if before < sent[job, round_]:
            return Check(
                name, "failed", f"{what} is number {sent[job, round_]}; {before} charges of it were made before"
            )
    if not counted:
        return Check(name, "not checked", "no update of a job with DP is in the journal")
    total = sum(map(len, charged.values()))
    return Check(
        name, "ok", f"{counted} updates of {len(jobs)} jobs with DP left, each after its charge; {total} charges"
    )


def _without_dp(books: _Books) -> Check:
    name = "nothing_of_pairs_without_dp"
    if broken := books.unreadable(name):
        return broken
    open_ = [entry for entry in books.left if entry["pairs"] == "open"]
    if not open_:
        return Check(name, "ok", "no update that was trained on TI pairs without DP is in the journal")
    return Check(
        name,
        "not checked",
        f"{len(open_)} updates were trained on TI pairs WITHOUT DP, the last at {open_[-1]['time']}: no epsilon here "
        "says anything about them",
    )


def _kept_state(books: _Books) -> Check:
    """A state after a round shows that the round was trained: it must have been charged."""
    name = "kept_state_was_charged"
    if broken := books.unreadable(name):
        return broken
    charged: dict[str, set[int]] = defaultdict(set)
    for charge in books.charges:
        if "round" in charge.about:
            charged[charge.job].add(int(charge.about["round"]))
    private = set(charged) | {entry["experiment"] for entry in books.left if entry["pairs"] == "dp"}
    kept, checked = books.kept, 0
    for job in sorted(private & kept.keys()):
        for round_ in kept[job]:
            checked += 1
            if round_ not in charged[job]:
                return Check(name, "failed", f"the state after round {round_} of {job} is kept, it was never charged")
    others = len(kept.keys() - private)
    beside = f"; {others} further jobs with kept state did not train on TI pairs under DP" if others else ""
    if not checked:
        return Check(name, "not checked", f"no BatchNorm state of a job with DP is kept to compare{beside}")
    return Check(name, "ok", f"{checked} kept states are of rounds that were charged{beside}")


def _within_policy(books: _Books) -> Check:
    name, sound = "within_policy", [book for book in (books.audit, books.whole_site) if book is not None]
    if not sound:
        return Check(name, "not checked", "there is no sound ledger")
    try:
        for book in sound:
            check_cap(book)
    except PolicyError as error:
        return Check(name, "failed", error.what)
    caps = "; ".join(f"{book['cap']:g} ({book['adjacency']})" for book in sound)
    return Check(name, "ok", f"nothing has spent more than epsilon {caps}")


def _round_of(charge: Charge) -> str:
    return f"round {charge.about['round']} of {charge.job}" if "round" in charge.about else charge.job
