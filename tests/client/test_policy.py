"""A site's policy: each key refuses what it forbids, and a run cannot loosen it."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from client.policy import SIMULATION, check, limits
from client.site_file import PrivacyPolicy, SitePolicy
from socket_core.errors import PolicyError
from tests.server.builders import experiment_with

TGKT = {"method__name": "tgkt", "method__translator": {"rounds": 2}, "federation__rounds": 3}
LOCAL = {"method__translator": {"rounds": 2, "exchange": "local"}}


def test_the_default_allows_the_default_experiment() -> None:
    check(SitePolicy(), experiment_with(), 5)


@pytest.mark.parametrize(
    ("policy", "changes", "rounds", "key"),
    [
        ({}, {"method__name": "oracle"}, 1, "methods"),
        ({"methods": ("shot",)}, {}, 1, "methods"),
        ({"methods": ()}, {}, 1, "methods"),
        ({}, {"federation__bn_policy": "pooled"}, 1, "bn_policies"),
        ({"bn_policies": ("source",)}, {}, 1, "bn_policies"),
        ({"max_rounds": 3}, {}, 4, "max_rounds"),
        ({"max_steps": 9}, {"federation__steps": 10}, 1, "max_steps"),
        ({"translators": ("local",)}, TGKT, 2, "translators"),
        ({"translators": ("shared",)}, TGKT | LOCAL, 1, "translators"),
        ({"methods": ("socket",)}, TGKT, 2, "methods"),
        ({"max_steps": 29}, TGKT | LOCAL | {"federation__steps": 10}, 1, "max_steps"),
    ],
)
def test_each_key_refuses_and_is_named(policy: dict[str, Any], changes: dict[str, Any], rounds: int, key: str) -> None:
    with pytest.raises(PolicyError) as caught:
        check(SitePolicy(**policy), experiment_with(**changes), rounds)
    assert caught.value.where == f"policy.{key}"
    assert "site.yaml" in caught.value.remedy


def test_limits_are_inclusive() -> None:
    check(SitePolicy(max_rounds=3, max_steps=10), experiment_with(federation__steps=10), 3)


def test_a_translator_of_the_sites_own_is_trained_within_a_round_and_counts() -> None:
    check(SitePolicy(max_steps=30), experiment_with(**TGKT | LOCAL, federation__steps=10), 1)
    check(SitePolicy(max_steps=10), experiment_with(**TGKT, federation__steps=10), 3)


def test_a_translator_that_never_leaves_may_be_all_that_is_allowed() -> None:
    own = SitePolicy(translators=("local",))
    check(own, experiment_with(**TGKT | LOCAL), 1)
    check(own, experiment_with(**TGKT | {"method__translator": {"kind": "replicate"}}), 3)
    check(own, experiment_with(), 2)  # methods without one are no matter
    check(SitePolicy(translators=()), experiment_with(), 2)


def test_by_default_no_statistics_leave() -> None:
    assert "pooled" not in SitePolicy().bn_policies
    assert "oracle" not in SitePolicy().methods


@pytest.mark.parametrize("method", ["unadapted", "adabn", "shot", "socket", "tgkt", "oracle"])
@pytest.mark.parametrize("bn_policy", ["local", "source", "pooled"])
def test_simulated_sites_allow_everything(method: str, bn_policy: str) -> None:
    check(SIMULATION, experiment_with(method__name=method, federation__bn_policy=bn_policy), 1000)


@pytest.mark.parametrize("wrong", [{"max_round": 3}, {"max_rounds": 0}, {"methods": ("magic",)}, {"max_steps": "9"}])
def test_a_wrong_policy_is_refused_as_a_whole(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        SitePolicy(**wrong)


PRIVACY = {"epsilon": 2.0, "sample_rate": 0.1, "expected_batch": 8}
WITH_DP: dict[str, Any] = {"method__name": "socket", "method__trust": "always", "privacy": PRIVACY}


@pytest.mark.parametrize(
    ("policy", "changes", "key"),
    [
        ({"require_dp": True}, {"method__name": "socket"}, "require_dp"),
        ({"epsilon": 1.9}, WITH_DP, "epsilon"),
        ({"delta": 1e-6}, WITH_DP, "delta"),
        ({"scopes": ("bn_affine",)}, WITH_DP, "scopes"),
        ({"min_sigma": 20.0}, WITH_DP, "min_sigma"),
        ({}, WITH_DP | {"privacy": {"sigma": 0.4, "sample_rate": 0.1, "expected_batch": 8}}, "min_sigma"),
    ],
)
def test_each_privacy_key_refuses_and_is_named(policy: dict[str, Any], changes: dict[str, Any], key: str) -> None:
    with pytest.raises(PolicyError) as caught:
        check(SitePolicy(privacy=PrivacyPolicy(**policy)), experiment_with(**copy.deepcopy(changes)), 1)
    assert caught.value.where == f"policy.privacy.{key}"


def test_dp_within_the_limits_is_allowed_and_methods_without_pairs_need_none() -> None:
    strict = SitePolicy(privacy=PrivacyPolicy(require_dp=True, epsilon=2.0, scopes=("bottleneck",)))
    check(strict, experiment_with(**copy.deepcopy(WITH_DP)), 1)
    check(strict, experiment_with(method__name="shot"), 1)


@given(cap=st.floats(0.1, 20), delta=st.floats(1e-7, 1e-3), asked=st.floats(0.1, 20), asked_delta=st.floats(1e-7, 1e-3))
def test_a_run_can_only_tighten(cap: float, delta: float, asked: float, asked_delta: float) -> None:
    raw = {"privacy": PRIVACY | {"epsilon": asked, "delta": asked_delta}, "method__trust": "always"}
    policy, experiment = SitePolicy(privacy=PrivacyPolicy(epsilon=cap, delta=delta)), experiment_with(**raw)
    found = limits(policy, experiment)
    assert (found.epsilon, found.delta) == (cap, delta)
    assert (found.job_epsilon, found.job_delta) == (asked, asked_delta)
    if asked > cap or asked_delta > delta:
        with pytest.raises(PolicyError):
            check(policy, experiment, 1)
