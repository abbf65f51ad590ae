"""Two ways to run the federations of a comparison: real Flower with Ray, or all nodes in this process."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

import yaml
from flwr.app import Context, RecordDict

from server import rounds
from server.app import job_folder
from server.journal import Journal
from server.local_grid import LocalGrid
from server.progress import Display
from server.simulation import simulation_link, stop_group
from server.sources import source_files
from socket_core.config import Experiment
from socket_core.files import write_atomically
from socket_core.methods import rounds_of

if TYPE_CHECKING:
    from server.compare import Plan


class Federator(Protocol):
    """Runs federations, each to its last round, in the folders that :func:`job_folder` names."""

    def run(self, plan: Plan, experiments: Sequence[Experiment], display: Display) -> None:
        """Runs experiments that differ in method alone."""


class FlowerFederator:
    """``flwr run`` against an own simulation SuperLink, stopped at the end."""

    def run(self, plan: Plan, experiments: Sequence[Experiment], display: Display) -> None:
        """One Flower run for all methods: starting Ray takes longer than a tiny federation."""
        config = plan.home / "experiment.yaml"
        write_atomically(config, yaml.safe_dump(experiments[0].model_dump(mode="json")).encode())
        run_config = {
            "config": str(config),
            "methods": ",".join(e.method.name for e in experiments),
            "seeds": str(experiments[0].seed),
            "home": str(plan.home),
            "cache": str(plan.cache),
            "resume": "auto",
        }
        journals = [Journal(job_folder(plan.home, e) / "rounds.jsonl") for e in experiments]
        total = sum(rounds_of(e) for e in experiments)
        display.say("starting Flower (an own SuperLink, with Ray; both are stopped at the end)")
        log = plan.home / "flower-run.log"
        with simulation_link(plan.home) as link, display.task("federated, rounds over Flower") as progress:
            sites, cpus = plan.experiment.federation.sites, min(plan.workers, multiprocessing.cpu_count())
            process = link.run(run_config, sites=sites, cpus=cpus, log=log)
            try:
                seen = -1
                while process.poll() is None:
                    if (done := sum(j.rounds() for j in journals)) != seen:
                        progress(done, total)
                        seen = done
                    time.sleep(0.3)
                link.finish(process, log)
                if seen < total:
                    progress(total, total)
            finally:
                stop_group(process)


class LocalFederator:
    """The same ServerApp loop and ClientApp in this process, node after node: for tests and large sweeps."""

    def run(self, plan: Plan, experiments: Sequence[Experiment], display: Display) -> None:
        """Runs the experiments one by one."""
        from client.app import app  # the owner's code needs a site's code only to play both parts

        config = plan.home / "experiment.yaml"
        write_atomically(config, yaml.safe_dump(experiments[0].model_dump(mode="json")).encode())
        run_config: dict[str, str | int | float | bool] = {
            "config": str(config),
            "home": str(plan.home),
            "cache": str(plan.cache),
        }
        sites = plan.experiment.federation.sites
        for experiment in experiments:
            contexts = {
                i + 2: Context(1, i + 2, {"partition-id": i, "num-partitions": sites}, RecordDict(), run_config)
                for i in range(sites)
            }
            files = source_files(plan.home, experiment)
            job = rounds.Job.of(experiment, files, job_folder(plan.home, experiment), "auto")
            with display.task(f"federated {experiment.method.name}, in process") as progress:

                def tell(step: str, facts: dict[str, object], job: rounds.Job = job) -> None:
                    if step == "round closed":
                        progress(int(str(facts["round"])), job.rounds)

                rounds.run(LocalGrid(app, contexts), job, observe=tell)
