"""What is in a file of evidence, and checking it with the site's public key alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError

from socket_core.config_section import Section
from socket_core.errors import PrivacyError
from socket_core.keys import key_id, load_public_key
from socket_core.signed_json import check, read

FORMAT, VERSION = "socket-fl/evidence", 1
PURPOSE = FORMAT
"""Signatures of this product carry their purpose: one made for something else is none over evidence."""

SECTIONS = frozenset({"empirical", "membership"})
"""Sections that may be there, of attacks on the site's own updates."""

Status = Literal["ok", "failed", "not checked"]
CHECKS = (
    "ledger_chain",
    "site_ledger_chain",
    "journal_chain",
    "journal_is_the_same",
    "updates_were_charged",
    "nothing_of_pairs_without_dp",
    "kept_state_was_charged",
    "within_policy",
)
"""Names of all checks of :func:`client.verification.verify`, in their order."""

Text = Field(max_length=10_000)


class Reported(Section):
    """One check that the site has made."""

    name: str = Text
    status: Status
    text: str = Text


class Total(Section):
    """Epsilon of one data set over all jobs; null where an accountant has no bound."""

    rdp: float | None
    pld: float | None
    claim: float | None
    by: str = Text
    delta: float


class DataSet(Section):
    """What was spent on one set of TI pairs and on all that share a pair with it, or on the site as a whole."""

    data: str = Text
    jobs: list[dict[str, Any]]
    total: Total


class Spent(Section):
    """A ledger as a table; ``unit`` says whether it is of TI pairs or of the whole site."""

    site: str = Text
    chain: str = Text
    charges: int
    delta: float
    cap: float
    unit: str = Text
    adjacency: str = Text
    not_covered: list[str]
    data_sets: list[DataSet]


class Kind(Section):
    """Messages of one kind."""

    messages: int
    bytes: int
    tensors: int


class Egress(Section):
    """What left, in numbers."""

    messages: int
    bytes: int
    kinds: dict[str, Kind]
    payload_sha256: list[str]


class Evidence(Section):
    """The content of a file of evidence."""

    format: Literal["socket-fl/evidence"]
    version: Literal[1]
    product: str = Text
    site: str = Text
    time: str = Text
    policy: dict[str, Any]
    policy_in_words: list[str]
    audit: Spent | None
    whole_site: Spent | None = None  # evidence from before it was shown has none, and stays readable
    charges: list[dict[str, Any]]
    verification: list[Reported]
    egress: Egress
    software: dict[str, str]
    empirical: dict[str, Any] | None = None
    membership: dict[str, Any] | None = None

    def failures(self) -> list[str]:
        """What in it speaks against the site: its own failed checks, and where it contradicts itself."""
        found = [f"{one.name}: {one.text}" for one in self.verification if one.status == "failed"]
        missing = sorted(set(CHECKS) - {one.name for one in self.verification})
        found += [f"{name}: this check is not in it" for name in missing]
        found += [f"{name}: says that it is not ok" for name in sorted(SECTIONS) if _not_ok(getattr(self, name))]
        egress, spent = self.egress, self.audit
        if not egress.messages == len(egress.payload_sha256) == sum(kind.messages for kind in egress.kinds.values()):
            found.append("egress: its numbers of messages differ")
        if spent is not None and spent.charges != len(self.charges):
            found.append("audit: its numbers of charges differ")
        for name, book in self.books():
            for own in book.data_sets:
                if own.total.claim is None or own.total.claim > book.cap:
                    found.append(f"{name}: {own.data[:16]} has spent more than the cap of {book.cap:g}")
        return found

    def books(self) -> list[tuple[str, Spent]]:
        """The ledgers that the site has."""
        both = [("audit", self.audit), ("whole_site", self.whole_site)]
        return [(name, book) for name, book in both if book is not None]

    def follows(self, earlier: Evidence) -> list[str]:
        """What of earlier evidence is gone: ledger and journal only grow."""
        found = [] if self.site == earlier.site else [f"it is of {self.site}, the earlier one of {earlier.site}"]
        if self.charges[: len(earlier.charges)] != earlier.charges:
            found.append("the ledger no longer holds all charges of the earlier evidence")
        hashes = earlier.egress.payload_sha256
        if self.egress.payload_sha256[: len(hashes)] != hashes:
            found.append("the journal no longer holds all messages of the earlier evidence")
        before, now = (one.whole_site.charges if one.whole_site is not None else 0 for one in (earlier, self))
        if now < before:
            found.append(f"the ledger of the whole site has {now} charges, the earlier evidence had {before}")
        return found


def open_evidence(path: Path, key: Path) -> Evidence:
    """The content of a file of evidence, after checking its signature.

    Raises:
        PrivacyError: If it was altered, was signed by another key, or is of another version.
        ReleaseError: If the key cannot be read.
    """
    content = check(read(path), load_public_key(key), PURPOSE, where=str(path))
    found = content.get("format"), content.get("version")
    if found != (FORMAT, VERSION) or isinstance(found[1], bool):
        raise PrivacyError(
            f"expected {FORMAT} version {VERSION}, found {str(found)[:100]}",
            where=str(path),
            remedy="use the socket-fl that wrote it, or a newer one",
        )
    try:
        return Evidence.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        key_ = ".".join(str(part) for part in first["loc"])
        raise PrivacyError(
            f"key {key_[:100]!r}: {first['msg'][:200]}", where=str(path), remedy="ask the site to write it again"
        ) from None


def lines(evidence: Evidence, key: Path) -> list[str]:
    """What was checked and what the site says, for a terminal."""
    out = [
        f"evidence of site {evidence.site}, written {evidence.time} by {evidence.product}",
        f"  signature is of {key_id(load_public_key(key))}",
        *(f"  {one.status:12} {one.name}: {one.text}" for one in evidence.verification),
    ]
    for name, book in evidence.books():
        for own in book.data_sets:
            claim = f"{own.total.claim:.3f} by {own.total.by}" if own.total.claim is not None else "without a bound"
            of = f"at delta {own.total.delta:g} of at most {book.cap:g}; {book.unit}; {book.adjacency}"
            out.append(f"  {name} {own.data[:16]}: epsilon {claim} {of}")
        out += [f"  not covered: {what}" for what in book.not_covered]
    left = evidence.egress
    out.append(f"  {left.messages} messages of {left.bytes} bytes have left")
    out += [f"  section {name} is in it" for name in sorted(SECTIONS) if getattr(evidence, name) is not None]
    return ["".join(c if c.isprintable() else "?" for c in line) for line in out]


def _not_ok(section: dict[str, Any] | None) -> bool:
    return section is not None and section.get("ok") is False
