"""A site's privacy budget: which steps touched which TI pairs, written down before they do.

Events are kept, not epsilons: epsilon is taken over all of them (see :mod:`socket_core.privacy.accounting`). A data
set is known by a keyed fingerprint of its records, so that runs, restarts and renamed folders make no difference.
Data sets that share a record share their budget: a site cannot begin anew by adding one image, since what a record
has been through is at most what all data sets that overlap with its own have been through.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from socket_core.errors import PrivacyError
from socket_core.privacy.accounting import RECORD, Event, Unit, rdp_epsilon
from socket_core.privacy.chain import Chain

TAG_BYTES = 16


class BudgetError(PrivacyError):
    """The next steps would spend more than is allowed; nothing was charged and no pair was looked at."""


class Budget(Protocol):
    """What a training step needs of a ledger."""

    def charge(self, event: Event, **about: str | float) -> None:
        """Writes the event down for good, or raises; the steps may run only after it has returned."""


@dataclass(frozen=True)
class Limits:
    """What may be spent.

    Attributes:
        epsilon: On this data set, over all jobs (the site's).
        delta: Of that epsilon.
        job_epsilon: By this job alone (the run's); None for no limit of its own.
        job_delta: Of that epsilon.
        unit: What all of it is about; one ledger holds one unit.
    """

    epsilon: float
    delta: float
    job_epsilon: float | None = None
    job_delta: float = 1e-5
    unit: Unit = RECORD


@dataclass(frozen=True)
class Charge:
    """One line of the ledger.

    Attributes:
        time: UTC, ISO 8601.
        data: Fingerprint of the data set.
        job: What it was charged for.
        event: The steps.
        about: Clip norm and scope; of a federation's round also its number, and how many messages had left
            the site by then.
    """

    time: str
    data: str
    job: str
    event: Event
    about: dict[str, Any]


class Ledger:
    """The ledger of one site.

    Args:
        path: Its database; key and head lie beside it.
        create: Whether it may be started.

    Raises:
        PrivacyError: If it was there and is missing, altered or damaged.
    """

    def __init__(self, path: Path, *, create: bool = True) -> None:
        self._chain = Chain(path, create=create)
        self.path = path

    def register(self, records: Iterable[bytes]) -> str:
        """The fingerprint of a data set, which is written down when it is new.

        Args:
            records: A digest of each record's content, in any order.
        """
        chain = self._chain
        tags = sorted({chain.keyed("record", record)[:TAG_BYTES] for record in records})
        data = chain.keyed("data", b"".join(tags)).hex()
        with chain.locked():
            if not any(e["kind"] == "data" and e["data"] == data for e in chain.read()):
                chain.append({"kind": "data", "data": data, "time": _now()}, tags=tags, name=data)
        return data

    def account(
        self, records: Iterable[bytes], job: str, limits: Limits, about: Mapping[str, str | float] | None = None
    ) -> Account:
        """The budget of one job on one data set; ``about`` goes with every charge."""
        return Account(self, self.register(records), job, limits, about or {})

    def charges(self) -> list[Charge]:
        """All charges in order, after checking the whole chain and every data set.

        Raises:
            PrivacyError: If anything was altered.
        """
        entries = self._chain.read()
        for entry in entries:
            if entry["kind"] == "data":
                self._tags(entry["data"])
        return [_charge(entry) for entry in entries if entry["kind"] == "charge"]

    def spent_on(self, data: str) -> list[Charge]:
        """The charges of this data set and of all that share a record with it."""
        own, related = set(self._tags(data)), {data}
        charges = self.charges()
        for other in {charge.data for charge in charges} - related:
            if not own.isdisjoint(self._tags(other)):
                related.add(other)
        return [charge for charge in charges if charge.data in related]

    def charge(self, data: str, job: str, event: Event, limits: Limits, about: dict[str, Any]) -> None:
        """Writes an event down if the limits allow it; see :class:`Account`."""
        with self._chain.locked():
            past = self.spent_on(data)
            after = rdp_epsilon([*(c.event for c in past), event], limits.delta)
            if after > limits.epsilon:
                raise _used_up(after, limits.epsilon, limits.delta, "the site allows", limits.unit, limits.unit.cap_key)
            if limits.job_epsilon is not None:
                own = [c.event for c in past if c.job == job]
                after = rdp_epsilon([*own, event], limits.job_delta)
                if after > limits.job_epsilon:
                    raise _used_up(
                        after, limits.job_epsilon, limits.job_delta, "the run allows", limits.unit, limits.unit.job_key
                    )
            entry = {"sigma": event.sigma, "sample_rate": event.sample_rate, "steps": event.steps, "about": about}
            self._chain.append({"kind": "charge", "data": data, "job": job, "time": _now()} | entry)

    def _tags(self, data: str) -> list[bytes]:
        tags = self._chain.tags(data)
        if self._chain.keyed("data", b"".join(tags)).hex() != data:
            raise PrivacyError(
                "the records of a data set were altered", where=str(self.path), remedy="restore it from a backup"
            )
        return tags


@dataclass(frozen=True)
class Account:
    """The budget of one job on one data set: what :func:`socket_core.engine.adapt` charges.

    Attributes:
        ledger: Where it is written.
        data: Fingerprint of the data set.
        job: The job's name.
        limits: What may be spent.
        about: Goes with every charge.
    """

    ledger: Ledger
    data: str
    job: str
    limits: Limits
    about: Mapping[str, str | float] = field(default_factory=dict)

    def charge(self, event: Event, **about: str | float) -> None:
        """Writes the event down before its steps run; on disk when this returns.

        A crash afterwards counts steps that never ran: the budget is never under-counted.

        Raises:
            BudgetError: If the event would pass a limit; nothing is written then.
        """
        self.ledger.charge(self.data, self.job, event, self.limits, {**self.about, **about})


def _charge(entry: dict[str, Any]) -> Charge:
    event = Event(entry["sigma"], entry["sample_rate"], entry["steps"])
    return Charge(entry["time"], entry["data"], entry["job"], event, entry["about"])


def _used_up(after: float, cap: float, delta: float, whose: str, unit: Unit, where: str) -> BudgetError:
    return BudgetError(
        f"these steps would bring epsilon to {after:.3f}, {whose} {cap:g} ({unit.short}, delta {delta:g})",
        where=where,
        remedy=unit.remedy,
    )


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
