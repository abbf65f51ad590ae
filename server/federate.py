"""Two ways to run the federations of a comparison: real Flower with Ray, or all nodes in this process."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import yaml
from flwr.app import Context, RecordDict

from server import rounds
from server.app import job_folder, job_name
from server.choice import is_over
from server.flower_link import stop_group
from server.job import Job
from server.journal import Journal
from server.local_grid import LocalGrid
from server.progress import Display
from server.simulation import SimulationLink, simulation_link
from server.sources import source_files
from socket_core.config import Experiment
from socket_core.files import write_atomically
from socket_core.stages import federated_rounds

if TYPE_CHECKING:
    from server.plan import Plan

Told = Callable[[Experiment, int, int], None]
"""Called with an experiment, its rounds that are over, and all of its rounds; equal only when nothing is left to do."""


def tell_nobody(_experiment: Experiment, _done: int, _of: int) -> None:
    """For callers that do not follow."""


def is_finished(experiment: Experiment, journal: Journal) -> bool:
    """Whether a federation has written its last record: of all rounds, or of that in which patience ended it."""
    done = journal.rounds()
    return done >= federated_rounds(experiment) or is_over(journal.read(), experiment.federation.patience)


class Federator(Protocol):
    """Runs federations, each to its last round, in the folders that :func:`job_folder` names."""

    def run(self, plan: Plan, experiments: Sequence[Experiment], display: Display, told: Told = tell_nobody) -> None:
        """Runs experiments that share seed and source model."""


class FlowerFederator:
    """``flwr run`` against an own simulation SuperLink, stopped at the end."""

    def run(self, plan: Plan, experiments: Sequence[Experiment], display: Display, told: Told = tell_nobody) -> None:
        """One Flower run for all that have as many sites: starting Ray takes longer than a tiny federation."""
        for sites in dict.fromkeys(e.federation.sites for e in experiments):
            alike = [e for e in experiments if e.federation.sites == sites]
            display.say("starting Flower (an own SuperLink, with Ray; both are stopped at the end)")
            # A SuperLink of its own: no site answers in a second run with another number of sites.
            with simulation_link(plan.home) as link, display.task("federations over Flower, rounds") as progress:
                self._run_alike(plan, alike, link, _Followed(plan, alike, progress, told))

    def _run_alike(
        self, plan: Plan, experiments: Sequence[Experiment], link: SimulationLink, followed: _Followed
    ) -> None:
        run_config = {
            # Without the home, where it is found: a folder's name may hold a comma.
            "config": ",".join(str(_config_file(plan, e).relative_to(plan.home)) for e in experiments),
            "home": str(plan.home),
            "cache": str(plan.cache),
            "resume": "auto",
        }
        log = plan.home / "flower-run.log"
        cpus = min(plan.workers, multiprocessing.cpu_count())
        process = link.run(run_config, sites=experiments[0].federation.sites, cpus=cpus, log=log)
        try:
            while process.poll() is None:
                followed.look()
                time.sleep(0.3)
            link.finish(process, log)
            followed.look()
        finally:
            stop_group(process)


class _Followed:
    """Federations of one run, followed by what they write."""

    def __init__(
        self, plan: Plan, experiments: Sequence[Experiment], progress: Callable[[int, int], None], told: Told
    ) -> None:
        self._journals = {e: Journal(job_folder(plan.home, e) / "rounds.jsonl") for e in experiments}
        self._seen = dict.fromkeys(experiments, -1)
        self._progress, self._told = progress, told

    def look(self) -> None:
        """Says what is new."""
        for experiment, journal in self._journals.items():
            of = federated_rounds(experiment)
            done = of if is_finished(experiment, journal) else journal.rounds()
            if done != self._seen[experiment]:
                self._seen[experiment] = done
                self._progress(sum(max(0, n) for n in self._seen.values()), sum(map(federated_rounds, self._seen)))
                self._told(experiment, done, of)


class LocalFederator:
    """The same ServerApp loop and ClientApp in this process, node after node: for tests and large sweeps."""

    def run(self, plan: Plan, experiments: Sequence[Experiment], display: Display, told: Told = tell_nobody) -> None:
        """Runs the experiments one by one."""
        from client.app import app  # the owner's code needs a site's code only to play both parts

        for experiment in experiments:
            sites = experiment.federation.sites
            run_config: dict[str, str | int | float | bool] = {
                "config": str(_config_file(plan, experiment)),
                "home": str(plan.home),
                "cache": str(plan.cache),
            }
            contexts = {
                i + 2: Context(1, i + 2, {"partition-id": i, "num-partitions": sites}, RecordDict(), run_config)
                for i in range(sites)
            }
            files = source_files(plan.home, experiment)
            job = Job.of(experiment, files, job_folder(plan.home, experiment), "auto")
            with display.task(f"{job_name(experiment)}, round") as progress:

                def tell(step: str, facts: dict[str, object], job: Job = job) -> None:
                    if step == "round closed" and (done := int(str(facts["round"]))) < job.rounds:
                        progress(done, job.rounds)
                        told(job.experiment, done, job.rounds)

                rounds.run(LocalGrid(app, contexts), job, observe=tell)
                told(experiment, job.rounds, job.rounds)


def _config_file(plan: Plan, experiment: Experiment) -> Path:
    """Writes an experiment for the processes that run it."""
    path = plan.home / "experiments" / f"{job_name(experiment)}.yaml"
    write_atomically(path, yaml.safe_dump(experiment.model_dump(mode="json")).encode())
    return path
