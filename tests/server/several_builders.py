"""A federation with two sources: a home with two releases, each under its own key."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from server.job import Job, Resume
from server.sources import SourceFiles, ensure_sources
from tests.server.builders import Bench, World, experiment_with, quiet

LAB: dict[str, Any] = {"name": "lab", "backbone": "tiny_wide", "bottleneck_dim": 6}
TWO: dict[str, Any] = {"further_sources": [LAB], "federation__steps": 1}


@pytest.fixture(scope="session")
def two_sources(world: World, tmp_path_factory: pytest.TempPathFactory) -> World:
    """A world whose home also holds the release and the keys of a second owner; nobody writes into it."""
    home = Bench(world, tmp_path_factory.mktemp("two")).home
    ensure_sources(experiment_with(**TWO), home, world.cache, confirm_batchnorm=True, say=quiet)
    return World(world.cache, home)


class SeveralBench(Bench):
    """A bench whose jobs adapt both releases.

    Args:
        world: From :func:`two_sources`.
        folder: An empty folder.
        **changes: As for :class:`Bench`.
    """

    def __init__(self, world: World, folder: Path, **changes: Any) -> None:
        super().__init__(world, folder, **{**TWO, **changes})
        self.files = SourceFiles(
            (self.release_folder, self.home / "release-lab-seed0"),
            tuple(self.home / "keys" / f"{name}.pub.pem" for name in ("owner", "lab")),
        )

    def job(self, *, resume: Resume = "no") -> Job:
        """The job, its releases read anew."""
        return Job.of(self.experiment, self.files, self.job_home, resume)
