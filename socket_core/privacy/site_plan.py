"""How much noise whole-site protection needs over a job, and what a round of it is in a ledger.

Every round in which something travels is one Gaussian mechanism that every site takes part in (sample rate 1), rounds
that train a translator too. There are two views of it:

* **released**: who sees the global models sees sums over the sites, with the whole noise;
* **own**: who sees what one site sends. With noise at the sites that is the share, ``sigma / sqrt(sites)``. With noise
  at the server it is the change without noise, and the site has to take the owner's word for the released view.

A site that is removed changes nothing in a sum. With noise at the sites its share stays in: without it there is no sum.
"""

from __future__ import annotations

import math
from dataclasses import replace

from socket_core.config import Experiment, SitePrivacyConfig
from socket_core.config_privacy import not_of_one_site
from socket_core.errors import PrivacyError
from socket_core.privacy.accounting import SITE, SMALLEST_SIGMA, Event, calibrate, rdp_epsilon
from socket_core.privacy.ledger import Limits
from socket_core.stages import federated_rounds


def site_privacy_of(experiment: Experiment) -> SitePrivacyConfig:
    """The ``site_privacy`` section, which must be there and fit the rest.

    Raises:
        PrivacyError: If there is none, or a setting lets more leave than it accounts for.
    """
    if experiment.site_privacy is None:
        raise PrivacyError("no site_privacy section", where="site_privacy", remedy="give clip, and epsilon or sigma")
    if what := not_of_one_site(experiment):
        raise PrivacyError(f"site_privacy is asked for, but {what}", where="site_privacy", remedy="see docs/privacy.md")
    return experiment.site_privacy


def planned_rounds(experiment: Experiment) -> int:
    """Rounds of the job in which something travels, with those that may be done again."""
    return federated_rounds(experiment) + site_privacy_of(experiment).spare_rounds


def site_sigma(experiment: Experiment) -> float:
    """The noise of the sum over ``clip``: as given, or the least that keeps the whole job within its epsilon."""
    cfg = site_privacy_of(experiment)
    if cfg.sigma is not None or cfg.epsilon is None:
        return cfg.sigma or 0.0  # 0 is refused by Event
    return calibrate(cfg.epsilon, cfg.delta, 1.0, planned_rounds(experiment), SITE)


def released_event(experiment: Experiment, rounds: int = 1) -> Event:
    """Rounds as those who get the global models see them."""
    return Event(site_sigma(experiment), 1.0, rounds)


def own_event(experiment: Experiment, rounds: int = 1) -> Event:
    """Rounds as a site writes them down: its own share of noise, or with noise at the server the owner's word.

    Raises:
        PrivacyError: If a share is too small to be accounted for.
    """
    cfg, sigma = site_privacy_of(experiment), site_sigma(experiment)
    if cfg.noise == "server":
        return Event(sigma, 1.0, rounds)
    share = sigma / math.sqrt(experiment.federation.sites)
    if share < SMALLEST_SIGMA:
        raise PrivacyError(
            f"a site's own share of sigma {sigma:g} is {share:.3f}, expected at least {SMALLEST_SIGMA:g}",
            where="site_privacy.sigma",
            remedy="a larger sigma or a smaller epsilon, or site_privacy.noise: server",
        )
    return Event(share, 1.0, rounds)


def site_limits(experiment: Experiment, event: Event, cap: tuple[float, float] = (math.inf, 1e-5)) -> Limits:
    """What a job may spend in a ledger of whole sites: its planned rounds, and no more than ``cap``.

    Args:
        experiment: The job.
        event: One round, in the view of the ledger.
        cap: Epsilon and delta over all jobs.
    """
    delta = site_privacy_of(experiment).delta
    return Limits(*cap, planned_epsilon(experiment, event, delta), delta, SITE)


def planned_epsilon(experiment: Experiment, a_round: Event, delta: float) -> float:
    """Epsilon of all planned rounds by Renyi accounting, which is what a ledger refuses by."""
    return rdp_epsilon([replace(a_round, steps=planned_rounds(experiment))], delta)
