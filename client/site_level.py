"""Whole-site protection at the site: its own ledger, the clipped change, and its share of the noise."""

from __future__ import annotations

import numpy as np

from client.policy import site_cap
from client.site import Site
from socket_core.config import Experiment
from socket_core.exchange import Flat
from socket_core.privacy.dp_step import fresh_generator
from socket_core.privacy.ledger import Ledger
from socket_core.privacy.site_level import clip_change, noise_share
from socket_core.privacy.site_plan import own_event, site_limits, site_privacy_of, site_sigma

WHOLE_SITE = [b"all images of this site"]
"""What the ledger is about: whatever the images are, they are one record."""


def charge_round(site: Site, experiment: Experiment, job: str) -> None:
    """Writes a round down before the site's images are looked at; nothing without a ``site_privacy`` section.

    Raises:
        PrivacyError: If the ledger was there and is missing, altered or damaged.
        BudgetError: If the round would pass the site's cap or what the job planned.
    """
    if experiment.site_privacy is None:
        return
    event = own_event(experiment)
    limits = site_limits(experiment, event, site_cap(site.policy))
    account = Ledger(site.site_ledger_file).account(WHOLE_SITE, job, limits)
    account.charge(event, clip=experiment.site_privacy.clip, noise=experiment.site_privacy.noise)


def may_leave(experiment: Experiment, change: Flat) -> Flat:
    """The change as it may leave: of norm ``clip`` at most, and with this site's share of noise where sites add it.

    Args:
        experiment: With a ``site_privacy`` section, or the change is left as it is.
        change: Flat, of all travelling parameters.

    Raises:
        PrivacyError: If a value is not finite.
    """
    if experiment.site_privacy is None:
        return change
    cfg = site_privacy_of(experiment)
    clipped = clip_change(change, cfg.clip)
    if cfg.noise == "sites":
        clipped = clipped + noise_share(
            len(change), site_sigma(experiment), cfg.clip, experiment.federation.sites, fresh_generator()
        )
    return clipped.astype(np.float32)
