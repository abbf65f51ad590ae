"""The Flower ServerApp: makes sure of a release, then runs the rounds."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import torch
from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from server import rounds
from server.job import Job, parse_resume
from server.sources import ensure_sources
from socket_core.config import Experiment
from socket_core.run_config import RunConfig

log = logging.getLogger("flwr")

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Runs the experiments that the run configuration names."""
    run = RunConfig.of(context.run_config)
    resume = parse_resume(run.resume)
    for experiment in run.experiments():
        torch.set_num_threads(experiment.threads)
        embedded = experiment.data.kind == "scenes"
        files = ensure_sources(experiment, run.home, run.cache, confirm_batchnorm=embedded, say=log.info)
        home = job_folder(run.home, experiment)
        log.info("%s: writing to %s", job_name(experiment), home)
        rounds.run(grid, Job.of(experiment, files, home, resume), observe=_log_step)


def job_folder(home: Path, experiment: Experiment) -> Path:
    """Where a federated job writes, below the run's home."""
    return home / job_name(experiment) / "federated"


def job_name(experiment: Experiment) -> str:
    """Tells experiments of one comparison apart in files: no method's name holds a hyphen, so none is met twice."""
    return f"{experiment.name}-{experiment.method.name}-seed{experiment.seed}"


def _log_step(step: str, facts: dict[str, Any]) -> None:
    if step == "enrolled":
        log.info("sites: %s%s", ", ".join(facts["sites"]), _reasons(facts["refused"]))
    elif step == "round closed":
        accuracy = facts.get("held_out", {}).get("mean")
        shown = f", held-out accuracy {accuracy:.1%}" if accuracy is not None else ""
        log.info(
            "round %d: %d sites, %.1f s%s%s",
            facts["round"],
            len(facts["sites"]),
            facts["train_seconds"],
            shown,
            _reasons(facts["refused"]),
        )


def _reasons(refused: Any) -> str:
    return f"; left out: {refused}" if refused else ""
