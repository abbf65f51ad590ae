"""Federated against centralised, local and unadapted: the main job of the product in one call.

For each seed a source model, then every cell of the table: arms without network run side by side in
processes, federations run through Flower. Whatever an earlier call finished is taken and said so.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Hashable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace

from server import work
from server.app import job_folder
from server.arm_pool import run_arms
from server.arms import Arm, run_arm
from server.cells import Cell, basis_of, claim_folder, fingerprint, keep_row, kept_row, row_of_arms, row_of_federation
from server.federate import Federator, is_finished
from server.grid import check_names
from server.journal import Journal
from server.plan import Plan, as_compared, job_of, modes_of, shown
from server.progress import Display, Whole
from server.results import Row
from server.site_log import logged_to
from server.sources import SourceFiles, ensure_sources, source_files
from server.tally import Part
from socket_core.config import DataConfig, Experiment
from socket_core.data.catalogue import load_task, split_task
from socket_core.data.types import TransferTask
from socket_core.methods import METHODS, needs_pairs
from socket_core.release import pack_release

__all__ = ["Plan", "compare", "elapsed", "modes_of"]
Tasks = Mapping[DataConfig, TransferTask]


def compare(plan: Plan, federator: Federator, display: Display) -> list[Row]:
    """Runs what is missing and returns all rows, seed by seed.

    Raises:
        SocketError: If a part fails; finished cells are kept for the next call.
    """
    for method in plan.methods:  # before minutes of training, not after
        METHODS[method].check_sources(1 + len(plan.experiment.further_sources))
    check_names(plan.grid, plan.variants)
    cells = {seed: plan.cells(seed) for seed in plan.seeds}
    jobs = {seed: list(dict.fromkeys(map(job_of, cells[seed]))) for seed in plan.seeds}
    rows = []
    with logged_to(plan.log), display.whole(_parts(plan, jobs)) as whole:
        tasks = _images(plan, [job for of_seed in jobs.values() for job in of_seed], display)
        kept = {seed: kept_rows(plan, seed, jobs[seed], tasks) for seed in plan.seeds}
        for job in (job for of_seed in kept.values() for job in of_seed):
            whole.keep(job)
        if count := sum(map(len, kept.values())):
            total = sum(map(len, jobs.values()))
            display.say(f"{count} of {total} results are kept from an earlier run and used again")
        whole.begin()
        for seed in plan.seeds:
            found = _Seed(plan, seed, tasks, federator, display, whole, kept[seed]).run(jobs[seed])
            rows += [shown(found[job_of(cell)], cell) for cell in cells[seed]]
    return rows


def kept_rows(plan: Plan, seed: int, jobs: Sequence[Cell], tasks: Tasks) -> dict[Cell, Row]:
    """What an earlier call finished of one seed's jobs, on the very images and source model that are there."""
    files = source_files(plan.home, as_compared(plan.experiment, seed))
    if not all(folder.exists() for folder in files.folders):
        return {}
    basis = _basis(files, tasks)
    return {job: row for job in jobs if (row := kept_row(job, plan.home, basis[job.experiment.data])) is not None}


def _basis(files: SourceFiles, tasks: Tasks) -> dict[DataConfig, str]:
    digest = files.digest()
    return {data: basis_of(task, digest) for data, task in tasks.items()}


def _parts(plan: Plan, jobs: Mapping[int, Sequence[Cell]]) -> dict[Hashable, Part]:
    parts: dict[Hashable, Part] = {job: work.of_cell(job) for of_seed in jobs.values() for job in of_seed}
    return parts | {seed: work.of_source(plan.experiment) for seed in jobs}


def _images(plan: Plan, jobs: Sequence[Cell], display: Display) -> dict[DataConfig, TransferTask]:
    """All images; every task is split as its cells will: if that fails, then before a source model is trained."""
    tasks = {}
    for data in dict.fromkeys(job.experiment.data for job in jobs):
        with display.task("images") as progress:
            tasks[data] = load_task(data, cache=plan.cache, progress=progress)
    seen = set()
    for job in jobs:
        federation = job.experiment.federation
        key = (job.experiment.data, federation.partition, federation.sites, job.experiment.seed)
        if key not in seen:
            seen.add(key)
            split_task(tasks[job.experiment.data], job.experiment, federation.sites)
    return tasks


@dataclass
class _Seed:
    """The jobs of one seed, which share source models.

    Attributes:
        rows: What is there, by job.
    """

    plan: Plan
    seed: int
    tasks: Tasks
    federator: Federator
    display: Display
    whole: Whole
    rows: dict[Cell, Row]
    basis: dict[DataConfig, str] = field(default_factory=dict)

    def run(self, jobs: Sequence[Cell]) -> dict[Cell, Row]:
        """Runs those that are missing."""
        sources = self._sources()
        self.basis = _basis(sources, self.tasks)
        missing = [job for job in jobs if job not in self.rows]
        arms = [job for job in missing if job.mode != "federated"]
        # Closed at once if anything in the body fails: a generator left to the garbage collector keeps its workers.
        with closing(
            run_arms(arms, sources, self.plan.cache, self.plan.workers, self.plan.log, self.whole.report)
        ) as results:
            if arms:
                self.whole.now("local and centralised")
            for job, parts in results:
                self._keep(job, row_of_arms(job, parts))
        if federated := [job for job in missing if job.mode == "federated"]:
            self._federate(federated, sources)
        return self.rows

    def _sources(self) -> SourceFiles:
        experiment = as_compared(self.plan.experiment, self.seed)
        with self.display.task(f"source model, seed {self.seed}, epoch") as progress:

            def on_epoch(done: int, of: int, _loss: float) -> None:
                progress(done, of)
                self.whole.report(self.seed, done, of)

            sources = ensure_sources(
                experiment,
                self.plan.home,
                self.plan.cache,
                confirm_batchnorm=self.plan.confirm_batchnorm or experiment.data.kind == "scenes",
                say=self.display.say,
                on_epoch=on_epoch,
            )
        self.whole.keep(self.seed)
        return sources

    def _keep(self, job: Cell, row: Row) -> None:
        keep_row(job, self.plan.home, self.basis[job.experiment.data], row)
        self.rows[job] = row
        self.whole.report(job)

    def _federate(self, jobs: Sequence[Cell], sources: SourceFiles) -> None:
        before = self._source_accuracy(sources)
        by = {job.experiment: job for job in jobs}
        sent = sum(len(data) for folder in sources.folders for data in pack_release(folder).values())

        def told(experiment: Experiment, done: int, of: int) -> None:
            job = by[experiment]
            if done < of:
                self.whole.report(job, done, of)
            elif job not in self.rows:
                shares = split_task(self.tasks[experiment.data], experiment, experiment.federation.sites)
                row = row_of_federation(job, self._journal(job), before, shares)
                # Sites keep a release: which federation sent it depends on what ran before, and on when it was killed.
                self._keep(job, replace(row, release_bytes=sent * experiment.federation.sites))

        for job in jobs:
            self._claim(job)
            if is_finished(job.experiment, self._journal(job)):  # killed before its row was kept
                told(job.experiment, 1, 1)
        if missing := [job.experiment for job in jobs if job not in self.rows]:
            self.federator.run(self.plan, missing, self.display, told)
        for job in jobs:
            told(job.experiment, 1, 1)

    def _claim(self, job: Cell) -> None:
        """Makes the job's folder its own; what was begun under DP begins anew, since rounds done twice cost twice."""
        folder = job_folder(self.plan.home, job.experiment)
        private = job.experiment.privacy is not None and needs_pairs(job.experiment.method)
        begun = folder.exists() and not is_finished(job.experiment, Journal(folder / "rounds.jsonl"))
        if begun and (private or job.experiment.site_privacy is not None):
            shutil.rmtree(folder)
        claim_folder(folder, fingerprint(job, self.basis[job.experiment.data]))

    def _journal(self, job: Cell) -> Journal:
        return Journal(job_folder(self.plan.home, job.experiment) / "rounds.jsonl")

    def _source_accuracy(self, sources: SourceFiles) -> float:
        """Held-out accuracy of the source model; every curve but a federation's own starts with it."""
        known = [row.curve[0] for row in self.rows.values()]
        if known:
            return known[0]
        unadapted = self.plan.variant("unadapted", self.seed)
        arm = Arm(unadapted, None, sources, self.plan.cache)
        return row_of_arms(Cell(unadapted, "unadapted"), [run_arm(arm)]).accuracy


def elapsed(since: float) -> str:
    """Minutes and seconds since a monotonic time."""
    seconds = round(time.monotonic() - since)
    return f"{seconds // 60} min {seconds % 60:02d} s"
