"""Which Flower runs a comparison asks for; what such a run does is tested end to end."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from server import federate
from server.compare import Plan
from server.federate import FlowerFederator
from server.progress import Display
from socket_core.run_config import RunConfig
from tests.server.builders import experiment_with


class Finished:
    """A process that has ended well."""

    def poll(self) -> int:
        return 0


class Recorder:
    """Stands for the SuperLink and keeps what it is asked to run."""

    def __init__(self) -> None:
        self.started = 0
        self.runs: list[tuple[dict[str, str], int]] = []

    @contextmanager
    def __call__(self, _folder: Path) -> Iterator[Recorder]:
        self.started += 1
        yield self

    def run(self, run_config: dict[str, str], *, sites: int, **_: Any) -> Finished:
        self.runs.append((run_config, sites))
        return Finished()

    def finish(self, *_: Any) -> None:
        """Ended well."""


def test_experiments_with_as_many_sites_share_a_run_whatever_the_folder_is_called(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = Recorder()
    monkeypatch.setattr(federate, "simulation_link", link)
    monkeypatch.setattr(federate, "stop_group", lambda _: None)
    experiments = [
        experiment_with(seed=3, method__name="shot"),
        experiment_with(name="two", seed=3, federation__sites=2),
        experiment_with(name="no-ti", seed=3, method__weights={"ti": 0.0}),
    ]
    home = tmp_path / "one, two"
    plan = Plan(experiment_with(), (), (3,), home, tmp_path / "cache", workers=1)
    FlowerFederator().run(plan, experiments, Display(quiet=True))
    assert link.started == 2
    assert [sites for _, sites in link.runs] == [3, 2]
    asked = [RunConfig.of(run_config).experiments() for run_config, _ in link.runs]
    assert asked == [[experiments[0], experiments[2]], [experiments[1]]]
