"""Holds a run against what the site's own file allows."""

from __future__ import annotations

from client.site_file import PrivacyPolicy, SitePolicy
from socket_core.config import Experiment
from socket_core.errors import PolicyError
from socket_core.methods import needs_pairs
from socket_core.privacy.ledger import Limits
from socket_core.privacy.plan import sigma_of
from socket_core.privacy.site_plan import own_event, planned_epsilon
from socket_core.stages import bridge_rounds, shares_bridge

SIMULATION = SitePolicy(
    methods=("unadapted", "adabn", "shot", "socket", "tgkt", "oracle"),
    bn_policies=("local", "source", "pooled"),
    validation_scores=True,
    privacy=PrivacyPolicy(epsilon=1e6, delta=1e-3, min_sigma=0.3, site_epsilon=1e6),
)
"""The policy of simulated sites, whose images are nobody's secret."""


def check(policy: SitePolicy, experiment: Experiment, rounds: int) -> None:
    """Refuses what the policy forbids.

    Raises:
        PolicyError: Naming the policy's key.
    """
    federation, method = experiment.federation, experiment.method.name
    if method not in policy.methods:
        raise _refused(f"method {method!r}, allowed: {', '.join(policy.methods)}", "methods")
    if federation.bn_policy not in policy.bn_policies:
        raise _refused(f"bn_policy {federation.bn_policy!r}, allowed: {', '.join(policy.bn_policies)}", "bn_policies")
    translator = experiment.method.translator
    if bridge_rounds(experiment) and translator.exchange not in policy.translators:
        raise _refused(f"a {translator.exchange} translator, allowed: {', '.join(policy.translators)}", "translators")
    if rounds > policy.max_rounds:
        raise _refused(f"{rounds} rounds, at most {policy.max_rounds}", "max_rounds")
    # A translator of the site's own is trained within its first round.
    steps = federation.steps * (1 + (0 if shares_bridge(experiment) else bridge_rounds(experiment)))
    if steps > policy.max_steps:
        raise _refused(f"{steps} steps a round, at most {policy.max_steps}", "max_steps")
    _check_privacy(policy.privacy, experiment)


def _check_privacy(policy: PrivacyPolicy, experiment: Experiment) -> None:
    if not needs_pairs(experiment.method):
        return
    asked = experiment.privacy
    if asked is None:
        if policy.require_dp:
            raise _refused("TI pairs without DP, which is required", "privacy.require_dp")
        return
    if asked.delta > policy.delta:
        raise _refused(f"delta {asked.delta:g}, at most {policy.delta:g}", "privacy.delta")
    if asked.epsilon is not None and asked.epsilon > policy.epsilon:
        raise _refused(f"epsilon {asked.epsilon:g} for one job, at most {policy.epsilon:g}", "privacy.epsilon")
    if asked.scope not in policy.scopes:
        raise _refused(f"scope {asked.scope!r}, allowed: {', '.join(policy.scopes)}", "privacy.scopes")
    if (sigma := sigma_of(experiment)) < policy.min_sigma:
        raise _refused(f"sigma {sigma:g}, at least {policy.min_sigma:g}", "privacy.min_sigma")


def check_site_level(policy: SitePolicy, experiment: Experiment) -> None:
    """Refuses federations that protect the site as a whole less than the policy wants; alone, nothing leaves a site.

    Raises:
        PolicyError: Naming the policy's key.
    """
    own, asked = policy.privacy, experiment.site_privacy
    if asked is None:
        if own.require_site_dp:
            raise _refused("a federation without site_privacy, which is required", "privacy.require_site_dp")
        return
    if asked.delta > own.delta:
        raise _refused(f"whole-site delta {asked.delta:g}, at most {own.delta:g}", "privacy.delta")
    cost = planned_epsilon(experiment, own_event(experiment), own.delta)
    if cost > own.site_epsilon:
        raise _refused(
            f"whole-site epsilon {cost:.3f} in this site's view, at most {own.site_epsilon:g}", "privacy.site_epsilon"
        )


def site_cap(policy: SitePolicy) -> tuple[float, float]:
    """Epsilon and delta of the whole site over all federations."""
    return policy.privacy.site_epsilon, policy.privacy.delta


def limits(policy: SitePolicy, experiment: Experiment) -> Limits:
    """What a run may spend: the site's cap over all jobs, and the run's own for this one. Both hold."""
    asked, cap = experiment.privacy, policy.privacy
    own = (asked.epsilon, asked.delta) if asked is not None else (None, cap.delta)
    return Limits(cap.epsilon, cap.delta, *own)


def check_sources(policy: SitePolicy, count: int) -> None:
    """Refuses more sources than the policy allows.

    Raises:
        PolicyError: Naming the policy's key.
    """
    if count > policy.max_sources:
        raise _refused(f"{count} sources, at most {policy.max_sources}", "max_sources")


def _refused(what: str, key: str) -> PolicyError:
    return PolicyError(
        f"the run asks for {what}", where=f"policy.{key}", remedy="the site's operator can change site.yaml"
    )
