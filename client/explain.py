"""A site's policy in sentences: what a run would be allowed to do."""

from __future__ import annotations

from client.policy import check, check_site_level, limits
from client.site import Site
from client.site_file import SitePolicy
from socket_core.config import Experiment
from socket_core.errors import SocketError
from socket_core.methods import needs_pairs
from socket_core.privacy.accounting import ADJACENCY, NOT_COVERED, SITE, SITE_NOT_COVERED, UNIT, epsilon
from socket_core.privacy.plan import event_of, planned_steps, privacy_of, sigma_of
from socket_core.privacy.site_plan import own_event, planned_rounds, released_event, site_privacy_of
from socket_core.stages import federated_rounds


def explain(site: Site) -> list[str]:
    """What any run may and may not do here, one sentence each."""
    policy = site.policy
    return [*_general(policy), *_of_pairs(policy), *_of_the_site(policy)]


def explain_run(site: Site, experiment: Experiment) -> list[str]:
    """Whether this run would be allowed, and what it would cost TI pairs and site. Nothing is charged."""
    try:
        check(site.policy, experiment, federated_rounds(experiment))
        check_site_level(site.policy, experiment)
    except SocketError as error:
        return [f"This run would be refused. {error.where}: {error.what}."]
    return [*_cost_to_pairs(site, experiment), *_cost_to_site(experiment)]


def _cost_to_pairs(site: Site, experiment: Experiment) -> list[str]:
    method = experiment.method.name
    if not needs_pairs(experiment.method):
        return [f"This run would be allowed. {method} does not look at TI pairs, so they spend nothing."]
    if experiment.privacy is None:
        return [f"This run would be allowed. {method} would train on the TI pairs WITHOUT differential privacy."]
    cost = epsilon([event_of(experiment, planned_steps(experiment))], privacy_of(experiment).delta)
    both = limits(site.policy, experiment)
    own = f", and stops at epsilon {both.job_epsilon:g} of its own" if both.job_epsilon is not None else ""
    return [
        f"This run would be allowed as far as the policy goes, with sigma {sigma_of(experiment):.3f}{own}.",
        f"All its {planned_steps(experiment)} steps would cost {cost}.",
        "What earlier runs have spent comes on top: socket-site audit. A round that would pass the cap of epsilon "
        f"{both.epsilon:g} is refused before a pair is looked at.",
    ]


def _cost_to_site(experiment: Experiment) -> list[str]:
    if experiment.site_privacy is None:
        return ["A federation would send this site's weight changes WITHOUT protection of the site as a whole."]
    cfg, rounds = site_privacy_of(experiment), planned_rounds(experiment)
    towards = "The owner sees this site's changes without noise, and that the noise is added is the owner's word."
    if cfg.noise == "sites":
        cost = epsilon([own_event(experiment, rounds)], cfg.delta, SITE)
        towards = f"Towards the owner, who sees this site's own share, and in its own ledger, they would cost {cost}."
    return [
        f"As a federation, its {rounds} rounds would cost the site as a whole, towards those who get the global "
        f"models, {epsilon([released_event(experiment, rounds)], cfg.delta, SITE)}.",
        towards,
        "That is another unit than that of TI pairs: the two epsilons are never added.",
    ]


def _general(policy: SitePolicy) -> list[str]:
    statistics = (
        "BatchNorm statistics of this site's images may leave it (bn_policies has pooled)."
        if "pooled" in policy.bn_policies
        else "BatchNorm statistics of this site's images never leave it."
    )
    counts = "may leave" if policy.held_out_counts else "never leave"
    scores = "may leave" if policy.validation_scores else "never leaves"
    return [
        f"A run may use the methods {', '.join(policy.methods) or '(none)'}, with bn_policy "
        f"{' or '.join(policy.bn_policies) or '(none)'}, at most {policy.max_rounds} rounds, {policy.max_steps} steps "
        f"a round and {policy.max_sources} sources.",
        statistics,
        f"A label-free score of predictions on this site's images {scores}.",
        f"Confusion counts on labelled images that this site has put aside for tests {counts}.",
    ]


def _of_pairs(policy: SitePolicy) -> list[str]:
    own = policy.privacy
    without = (
        "A run that trains on TI pairs without differential privacy is refused."
        if own.require_dp
        else "A run may train on TI pairs WITHOUT differential privacy (require_dp is false)."
    )
    return [
        without,
        f"With differential privacy, all runs together may spend epsilon {own.epsilon:g} at delta {own.delta:g} on "
        f"the same TI pairs ({UNIT}; {ADJACENCY}); then rounds are refused, for ever.",
        f"Noise is at least sigma {own.min_sigma:g}; TI steps may train {' or '.join(own.scopes) or '(nothing)'}.",
        "A run can ask for less than this, never for more.",
        *(f"Not covered: {what}." for what in NOT_COVERED),
    ]


def _of_the_site(policy: SitePolicy) -> list[str]:
    own = policy.privacy
    without = (
        "A federation without protection of the site as a whole is refused."
        if own.require_site_dp
        else "A federation may go WITHOUT protection of the site as a whole (require_site_dp is false)."
    )
    return [
        without,
        f"With it, all federations together may spend epsilon {own.site_epsilon:g} ({SITE.statement(own.delta)}), "
        "apart from what TI pairs spend; then rounds are refused, for ever.",
        *(f"Not covered for the whole site: {what}." for what in SITE_NOT_COVERED),
    ]
