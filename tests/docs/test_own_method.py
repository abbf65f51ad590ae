"""The worked example of ``docs/add-a-method.md`` runs wherever a method can, and is refused where it may not."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from client.site_file import SitePolicy
from socket_core.config import parse_experiment_json
from socket_core.errors import ConfigError, MethodError
from socket_core.methods import METHODS, Method, register
from tests.core.builders import adapt_by, changed, configured, experiment, snapshot, statistics, tiny_network, tr_batch
from tests.docs.examples import EXAMPLES, loaded
from tests.server.builders import World, short_bench, world

__all__ = ["world"]


@pytest.fixture
def example() -> Iterator[dict[str, Any]]:
    with loaded("balanced_method.py") as names:
        yield names


def test_it_is_short() -> None:
    assert len((EXAMPLES / "balanced_method.py").read_text(encoding="utf-8").splitlines()) <= 65


def test_the_surer_half_of_each_class_keeps_its_label(example: dict[str, Any]) -> None:
    first = torch.tensor([0.9, 0.6, 0.8, 0.7, 0.3, 0.45, 0.1])
    found = example["surer_half"](torch.stack([first, 1 - first], dim=1))
    # Class 0: 0.9, 0.8, 0.7, 0.6, of which two are above the middle; class 1: 0.9, 0.7, 0.55, the middle included.
    assert found.tolist() == [0, -1, 0, -1, 1, -1, 1]


@pytest.mark.parametrize("policy", ["local", "source", "pooled"])
def test_the_engine_trains_it_like_any_other(example: dict[str, Any], policy: str) -> None:
    before = snapshot(tiny_network())
    network, report = adapt_by("balanced", policy, method__lr=0.01)
    moved = changed(before, snapshot(network))
    free = {key for key in before if not key.startswith("classifier")}
    assert moved == (free - statistics(free) if policy == "source" else free)
    assert report.steps == 3
    assert np.isfinite(report.losses["pl"])


def test_a_batch_without_a_label_has_no_loss(example: dict[str, Any]) -> None:
    method, _, _ = configured(experiment(method__name="balanced").method)
    method.labels = torch.full((12,), -1)  # type: ignore[attr-defined]  # what refresh() sets
    assert method.step(tr_batch(), None)["pl"].item() == 0.0


def test_a_federation_in_this_process_runs_it(example: dict[str, Any], world: World, tmp_path: Path) -> None:
    bench = short_bench(world, tmp_path, method__name="balanced")
    bench.run()
    assert [(record["round"], len(record["sites"])) for record in bench.records()] == [(1, 3), (2, 3)]


def test_nothing_to_learn_is_refused(example: dict[str, Any]) -> None:
    with pytest.raises(MethodError, match="nothing to learn"):
        adapt_by("balanced", method__weights={"pl": 0.0})


def test_configuration_and_policy_know_the_name_while_it_is_registered() -> None:
    with loaded("balanced_method.py"):
        made = experiment(method__name="balanced")
        assert parse_experiment_json(made.model_dump_json(), where="test") == made
        assert SitePolicy(methods=("balanced",)).methods == ("balanced",)  # type: ignore[arg-type]  # registered
    with pytest.raises(ConfigError, match=r"method\.name"):
        experiment(method__name="balanced")


def test_dp_is_refused_since_nothing_accounts_for_it(example: dict[str, Any]) -> None:
    private = {"epsilon": 3.0, "sample_rate": 0.5, "expected_batch": 4}
    with pytest.raises(ConfigError, match="no DP step accounts for what balanced does"):
        experiment(method__name="balanced", privacy=private)


@pytest.mark.parametrize("name", ["socket", "two words", "", None])
def test_a_name_that_is_taken_or_no_name_is_refused(name: Any) -> None:
    class Other(Method):
        pass

    if name is not None:
        Other.name = name
    before = dict(METHODS)
    with pytest.raises(MethodError):
        register(Other)
    assert before == METHODS


def test_a_cell_that_runs_again_replaces_its_own(example: dict[str, Any]) -> None:
    class Balanced(Method):
        name = "balanced"

    register(Balanced)
    assert METHODS["balanced"] is Balanced
