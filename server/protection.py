"""Protection of whole sites at the server: each round is in a ledger before its sum is made, then noised.

The ledger, ``site-level.sqlite`` beside the checkpoints, is of what the global models tell about one site. Sites are
known to it by name.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from server.aggregation import Blur, SiteUpdate
from server.state import ServerState
from socket_core.config import Experiment
from socket_core.errors import PrivacyError
from socket_core.privacy.dp_step import fresh_generator
from socket_core.privacy.ledger import Ledger
from socket_core.privacy.site_level import largest_share, noise_share
from socket_core.privacy.site_plan import released_event, site_limits, site_privacy_of

LEDGER = "site-level.sqlite"


class Protection:
    """The noise and the ledger of one federation.

    Args:
        experiment: With a ``site_privacy`` section.
        home: The job's folder.
        released: Whether rounds of this experiment lie there: they have been charged, so a ledger must be there.

    Raises:
        PrivacyError: If the ledger was there and is missing, altered or damaged, or a setting lets more leave than is
            accounted for.
    """

    def __init__(self, experiment: Experiment, home: Path, *, released: bool) -> None:
        self._experiment, self._cfg, self._event = experiment, site_privacy_of(experiment), released_event(experiment)
        if released and not (home / LEDGER).exists():
            raise _forgotten("checkpoints are here, and the ledger that they were charged to is gone", home / LEDGER)
        self._ledger = Ledger(home / LEDGER)

    def check(self, state: ServerState) -> None:
        """Refuses a state with more rounds than were charged.

        Raises:
            PrivacyError: If the ledger is an older copy, or another one.
        """
        if (charged := self._charged(state.experiment)) < state.round:
            raise _forgotten(
                f"the checkpoint is of round {state.round}, the ledger has {charged} of its rounds", self._ledger.path
            )

    def spend(self, job: str, updates: Sequence[SiteUpdate]) -> tuple[Blur, dict[str, Any]]:
        """Writes a round down, then opens a source of noise; on the disk when this returns, before anything is summed.

        Args:
            job: Name of the job.
            updates: Screened; the round is charged to their sites.

        Returns:
            What :func:`server.aggregation.apply` needs, and facts for the round's record.

        Raises:
            BudgetError: If the job has no rounds left.
        """
        names = [hashlib.sha256(update.site.encode()).digest() for update in updates]
        account = self._ledger.account(names, job, site_limits(self._experiment, self._event))
        account.charge(self._event, clip=self._cfg.clip, noise=self._cfg.noise)
        facts = {"sigma": self._event.sigma, "noise": self._cfg.noise, "charged": self._charged(job)}
        return self._blur(), {"site_privacy": facts}

    def largest_share(self, length: int) -> float | None:
        """The norm that no honest update passes, where sites add noise; else None."""
        cfg, sites = self._cfg, self._experiment.federation.sites
        return largest_share(length, self._event.sigma, cfg.clip, sites) if cfg.noise == "sites" else None

    def _blur(self) -> Blur:
        cfg, sites = self._cfg, self._experiment.federation.sites
        if cfg.noise == "sites":
            return Blur(sites)
        source = fresh_generator()
        return Blur(sites, cfg.clip, lambda length: noise_share(length, self._event.sigma, cfg.clip, 1, source))

    def _charged(self, job: str) -> int:
        return sum(charge.event.steps for charge in self._ledger.charges() if charge.job == job)


def _forgotten(what: str, path: Path) -> PrivacyError:
    return PrivacyError(
        what,
        where=str(path),
        remedy="restore .sqlite, .key and .head together from a backup, or remove the job's whole folder: what it "
        "released stays released",
    )
