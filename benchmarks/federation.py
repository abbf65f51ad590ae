"""A federation in this process over a release with random weights: how fast it is does not depend on what it knows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from flwr.app import Context, RecordDict

from benchmarks.harness import Tell
from client.app import app
from server import rounds
from server.job import Job
from server.journal import Journal
from server.local_grid import LocalGrid
from server.owner import ensure_keys, release_folder
from server.sources import source_files
from socket_core.config import Experiment
from socket_core.data.catalogue import load_task
from socket_core.data.scenes import TASK_RELEVANT
from socket_core.data.types import TransferTask
from socket_core.keys import load_private_key
from socket_core.models import build_network
from socket_core.release import write_release

ROOT = Path(__file__).resolve().parents[1]
CACHE = ROOT / ".cache" / "images"
FIRST_NODE = 2


def release_in(home: Path, experiment: Experiment) -> None:
    """Keys, and a release of a network as it was born."""
    private, _ = ensure_keys(home)
    network, data = experiment.network, experiment.data
    write_release(
        release_folder(home, experiment),
        build_network(network.backbone, network.bottleneck_dim, len(TASK_RELEVANT)),
        load_private_key(private),
        name=experiment.name,
        created_at=0,
        backbone=network.backbone,
        bottleneck_dim=network.bottleneck_dim,
        classes=TASK_RELEVANT,
        image_size=data.size,
        mean=data.mean,
        std=data.std,
        source_accuracy=0.0,
        epochs=experiment.source.epochs,
        seed=experiment.seed,
        best_epoch=1,
        confirm_batchnorm=True,
        settings_digest=experiment.source_digest(),  # so that a ServerApp takes it for the one that it would train
    )


def render(experiment: Experiment, tell: Tell) -> TransferTask:
    """The experiment's scenes, rendered once and then kept in the checkout's cache."""

    def progress(done: int, total: int) -> None:
        if done % 500 == 0:
            tell(f"scenes rendered: {done} of {total}")

    return load_task(experiment.data, cache=CACHE, progress=progress)


class Trial:
    """One federation of simulated sites.

    Args:
        folder: An empty folder.
        experiment: What to run; its scenes are rendered once and kept in the checkout's cache.
    """

    def __init__(self, folder: Path, experiment: Experiment) -> None:
        self.experiment, self.home = experiment, folder / "home"
        release_in(self.home, experiment)
        config = folder / "experiment.yaml"
        config.write_text(yaml.safe_dump(experiment.model_dump(mode="json")), encoding="utf-8")
        run_config: dict[str, Any] = {"config": str(config), "home": str(self.home), "cache": str(CACHE)}
        self._sites = experiment.federation.sites
        self.contexts = {
            FIRST_NODE + i: Context(
                1, FIRST_NODE + i, {"partition-id": i, "num-partitions": self._sites}, RecordDict(), run_config
            )
            for i in range(self._sites)
        }

    @property
    def job(self) -> Job:
        """What the server runs."""
        return Job.of(self.experiment, source_files(self.home, self.experiment), self.home / "job")

    def run(self, observe: rounds.Observer | None = None) -> list[dict[str, Any]]:
        """The records of all rounds."""
        rounds.run(LocalGrid(app, self.contexts), self.job, observe)
        return Journal(self.home / "job" / "rounds.jsonl").read()
