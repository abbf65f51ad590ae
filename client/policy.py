"""What a site allows, whatever a run asks for. Read from the site's own disk only."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from socket_core.config import BnPolicy, Experiment, MethodName, Section
from socket_core.errors import PolicyError
from socket_core.stages import bridge_rounds, shares_bridge


class SitePolicy(Section):
    """Limits that a run can only stay within.

    ``pooled`` BatchNorm is off by default: it sends statistics of the site's images.
    """

    methods: tuple[MethodName, ...] = ("unadapted", "adabn", "shot", "socket", "tgkt")
    bn_policies: tuple[BnPolicy, ...] = ("local", "source")
    translators: tuple[Literal["shared", "local"], ...] = Field(
        ("shared", "local"), description="shared: a translator trained on this site's TI pairs leaves it"
    )
    validation_scores: bool = Field(
        False, description="whether a label-free score of the predictions on this site's images may leave"
    )
    max_rounds: int = Field(1000, ge=1, description="of one job")
    max_steps: int = Field(100_000, ge=1, description="optimiser steps in one round")
    max_sources: int = Field(4, ge=1, description="releases adapted together; a step costs as much as all of them")


SIMULATION = SitePolicy(
    methods=("unadapted", "adabn", "shot", "socket", "tgkt", "oracle"),
    bn_policies=("local", "source", "pooled"),
    validation_scores=True,
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
