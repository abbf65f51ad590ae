"""A budget for simulated arms, whose images are nobody's secret: counted like a real one, kept for one job."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from socket_core.config import Experiment
from socket_core.data.types import Pairs
from socket_core.privacy.ledger import Account, Ledger, Limits
from socket_core.privacy.records import record_digests

UNLIMITED = 1e6


@contextmanager
def simulated_budget(pairs: Pairs, experiment: Experiment) -> Iterator[Account | None]:
    """The budget of one job at one simulated place; None without DP. Only the run's own limit holds."""
    asked = experiment.privacy
    if asked is None:
        yield None
        return
    with TemporaryDirectory(prefix="socket-fl-") as folder:
        own = Limits(UNLIMITED, asked.delta, asked.epsilon, asked.delta)
        yield Ledger(Path(folder) / "ledger.sqlite").account(record_digests(pairs), experiment.name, own)
