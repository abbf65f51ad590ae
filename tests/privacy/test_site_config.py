"""The ``site_privacy`` section: whatever lets more leave than a clipped change is refused, by name."""

from __future__ import annotations

from typing import Any

import pytest

from socket_core.config import Experiment, parse_experiment
from socket_core.errors import ConfigError

ASKED: dict[str, Any] = {"clip": 1.0, "sigma": 2.0}


def job(asked: dict[str, Any] | None = None, method: dict[str, Any] | None = None, **federation: Any) -> Experiment:
    raw = {"federation": {"sites": 3, "weighting": "equal"} | federation, "method": method or {}}
    return parse_experiment(raw | {"site_privacy": ASKED | (asked or {})}, where="test")


def test_the_section_is_read_and_has_careful_defaults() -> None:
    found = job().site_privacy
    assert found is not None
    assert (found.clip, found.sigma, found.noise, found.spare_rounds, found.delta) == (1.0, 2.0, "server", 0, 1e-5)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"weighting": "examples"}, "federation.weighting"),
        ({"bn_policy": "pooled"}, "federation.bn_policy"),
        ({"method": {"validator": "im"}}, "method.validator"),
        ({"asked": {"noise": "sites"}, "quorum": 2}, "federation.quorum"),
        ({"asked": {"epsilon": 1.0}}, "epsilon or sigma"),
        ({"asked": {"sigma": None}}, "epsilon or sigma"),
        ({"asked": {"sigma": 0.1}}, "sigma"),
        ({"asked": {"clip": 0.0}}, "clip"),
        ({"asked": {"clip": float("inf")}}, "clip"),
        ({"asked": {"delta": 0.1}}, "delta"),
        ({"asked": {"noise": "nobody"}}, "noise"),
    ],
)
def test_what_is_not_accounted_is_refused_and_named(changes: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigError, match=named.replace(".", r"\.")):
        job(**changes)


def test_shares_of_every_site_are_asked_for_where_sites_make_the_noise() -> None:
    assert job({"noise": "sites"}, quorum=3).federation.quorum == 3


def test_nothing_is_refused_without_the_section() -> None:
    raw = {"federation": {"bn_policy": "pooled"}, "method": {"validator": "im"}}
    assert parse_experiment(raw, where="test").site_privacy is None


def test_the_section_decides_the_result_and_its_absence_leaves_the_digest_as_it_was() -> None:
    plain = parse_experiment({"federation": {"sites": 3, "weighting": "equal"}}, where="test")
    assert plain.digest() == plain.model_copy(update={"site_privacy": None}).digest()
    digests = {plain.digest(), job().digest(), job({"clip": 2.0}).digest(), job({"spare_rounds": 1}).digest()}
    assert len(digests) == 4
    assert plain.source_digest() == job().source_digest()
