"""``socket-owner run``: gives an experiment to the served SuperLink and follows it to its end."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path
from typing import Any

from deploy import commands, nodes, processes
from deploy.flower import ask
from deploy.layout import CONNECTION, Deployment
from deploy.logs import PROGRAM, ProcessLog, Redactor
from deploy.serve import listens, only_one, say
from server.app import job_folder, job_name
from server.flower_link import FlowerLink, run_id_in
from server.journal import Journal
from server.owner import release_folder
from socket_core.config import Experiment, load_experiment
from socket_core.errors import DeploymentError, FederationError, ReleaseError
from socket_core.run_config import APP
from socket_core.stages import federated_rounds

LOOK_SECONDS = 1.0
STOP_SECONDS = 120.0
"""How long an interrupted run may take to be marked as ended."""


class _Link(FlowerLink):
    remedy = "mend what the log names, then the same command with --resume: it goes on from the last finished round"


def run_experiment(deployment: Deployment, config: Path, *, resume: bool, quiet: bool = False) -> dict[str, Any]:
    """Runs an experiment on the sites of a deployment.

    Args:
        deployment: That is being served.
        config: The experiment's file.
        resume: Go on from the newest finished round; a run that is still marked as going is ended first.
        quiet: Say nothing on the way.

    Returns:
        Run id, status, rounds, names of the last round's sites, held-out accuracy if known, folder.

    Raises:
        FederationError: If the run failed, or another one is going on.
        DeploymentError: If the deployment is not being served.
        ReleaseError: If the source model is not trained yet.
    """
    config = config.expanduser().resolve()
    experiment = load_experiment(config)
    _check_ready(deployment, experiment, config)
    with only_one(deployment.folder / "state" / "run.lock", "socket-owner run"):
        nodes.register(deployment)
        _clear_the_way(deployment, resume)
        link = _Link(CONNECTION, commands.environment(deployment.flower_home))
        run_config = {"config": str(config), "home": str(deployment.home), "resume": "yes" if resume else "no"}
        log = deployment.logs / f"run-{job_name(experiment)}.log"
        log.unlink(missing_ok=True)  # of an earlier run, whose id would be taken for this one's
        output = ProcessLog(log, _redactor(deployment, experiment))
        process = processes.spawn(link.command(run_config), environment=link.environment, folder=deployment.flower_home)
        output.attach(process)
        try:
            _follow(deployment, experiment, process, quiet)
            output.close()
            link.finish(process, log)
        except KeyboardInterrupt:
            for run_id in _unfinished(deployment):  # not from the log: it may not be there yet
                ask(deployment, "stop", run_id, check=False)
            if not quiet:
                say("stopped; the same command with --resume goes on from the last finished round")
            raise
        finally:
            processes.stop(process)
            output.close()
        return _facts(deployment, experiment, run_id_in(log))


def _redactor(deployment: Deployment, experiment: Experiment) -> Redactor:
    roots = {"data.root": experiment.data.root, "data.ti_root": experiment.data.ti_root}
    named = {key: Path(root).expanduser().resolve() for key, root in roots.items() if root}
    return Redactor(named, [deployment.folder, deployment.home, *PROGRAM])


def _check_ready(deployment: Deployment, experiment: Experiment, config: Path) -> None:
    if not (APP / "pyproject.toml").is_file():
        raise DeploymentError(
            "no pyproject.toml: the app that is sent to the sites is made from a checkout",
            where=str(APP),
            remedy="install the owner's side from a checkout (pip install -e)",
        )
    if not listens("127.0.0.1", deployment.file.control_port):
        raise DeploymentError(
            "nobody serves this deployment", where=deployment.control, remedy=f"socket-owner serve {deployment.folder}"
        )
    for name in ("", *(further.name for further in experiment.further_sources)):
        folder = release_folder(deployment.home, experiment, name)
        if experiment.data.kind != "scenes" and not folder.exists():
            train = f"socket-owner train --config {config} --out {deployment.home} --confirm-batchnorm-statistics"
            raise ReleaseError(
                "the release is not there",
                where=str(folder),
                remedy=f"get it from the owner of {name!r}" if name else train,
            )


def _clear_the_way(deployment: Deployment, resume: bool) -> None:
    """Makes sure that no other run is going on: two would share the sites and perhaps a folder."""
    end = time.monotonic() + STOP_SECONDS
    told = set[str]()
    while going := _unfinished(deployment):
        if not resume or time.monotonic() > end:
            raise FederationError(
                f"run {going[0]} is going on",
                where=deployment.control,
                remedy="wait for it; if it was interrupted, --resume ends it and goes on from its last finished round",
            )
        for run_id in set(going) - told:
            ask(deployment, "stop", run_id, check=False)
        told |= set(going)
        time.sleep(LOOK_SECONDS)


def _unfinished(deployment: Deployment) -> list[str]:
    runs = ask(deployment, "list").get("runs", [])
    return [str(run["run-id"]) for run in runs if not str(run.get("status", "")).startswith("finished")]


def _follow(deployment: Deployment, experiment: Experiment, process: subprocess.Popen[bytes], quiet: bool) -> None:
    journal = Journal(job_folder(deployment.home, experiment) / "rounds.jsonl")
    total, seen = federated_rounds(experiment), -1
    while process.poll() is None:
        if (done := journal.rounds()) != seen:
            seen = done
            if not quiet:
                say(f"{job_name(experiment)}: {done} of {total} rounds")
        time.sleep(LOOK_SECONDS)


def _facts(deployment: Deployment, experiment: Experiment, run_id: str) -> dict[str, Any]:
    folder = job_folder(deployment.home, experiment)
    records = Journal(folder / "rounds.jsonl").read()
    last = records[-1] if records else {}
    return {
        "run_id": run_id,
        "status": "finished:completed",
        "rounds": len(records),
        "sites": last.get("sites", []),
        "held_out": last.get("held_out", {}).get("mean"),
        "folder": str(folder),
    }
