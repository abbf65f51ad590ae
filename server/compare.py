"""Federated against centralised, local and unadapted: the main job of the product in one call.

For each seed a source model, then every cell of the table: arms without network run side by side in
processes, federations run through Flower. Whatever an earlier call finished is taken and said so.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from server.app import job_folder
from server.arms import Arm, ArmResult, run_arm
from server.cells import (
    Cell,
    basis_of,
    claim_folder,
    fingerprint,
    keep_row,
    kept_row,
    row_of_arms,
    row_of_federation,
)
from server.federate import Federator
from server.journal import Journal
from server.progress import Display
from server.results import Mode, Row
from server.sources import SourceFiles, ensure_sources
from socket_core.config import Experiment, MethodName
from socket_core.data.catalogue import load_task, split_task
from socket_core.methods import METHODS, needs_pairs


@dataclass(frozen=True)
class Plan:
    """What to compare.

    Attributes:
        experiment: All but method and seed.
        methods: In the order of the table.
        seeds: Each trains its own source model.
        home: Where everything is written.
        cache: Rendered or decoded images.
        workers: Processes side by side.
        confirm_batchnorm: The owner's word that the releases made here may be published; embedded scenes need none.
    """

    experiment: Experiment
    methods: tuple[MethodName, ...]
    seeds: tuple[int, ...]
    home: Path
    cache: Path
    workers: int = field(default_factory=lambda: max(1, multiprocessing.cpu_count()))
    confirm_batchnorm: bool = False

    def variant(self, method: MethodName, seed: int) -> Experiment:
        """The experiment with this method and seed."""
        chosen = self.experiment.method.model_copy(update={"name": method})
        # A comparison wants every site in every round, and a point on the curve after each.
        all_sites = {"quorum": self.experiment.federation.sites, "evaluate_every": 1}
        federation = self.experiment.federation.model_copy(update=all_sites)
        return self.experiment.model_copy(update={"method": chosen, "seed": seed, "federation": federation})

    def cells(self, seed: int) -> list[Cell]:
        """The cells of one seed."""
        return [Cell(self.variant(m, seed), mode) for m in self.methods for mode in modes_of(m)]


def modes_of(method: MethodName) -> tuple[Mode, ...]:
    """Which modes make sense: nothing to federate without adaptation, and the oracle is one bound."""
    if method == "unadapted":
        return ("unadapted",)
    return ("centralised",) if METHODS[method].oracle else ("local", "federated", "centralised")


def compare(plan: Plan, federator: Federator, display: Display) -> list[Row]:
    """Runs what is missing and returns all rows, seed by seed.

    Raises:
        SocketError: If a part fails; finished cells are kept for the next call.
    """
    rows = []
    for method in plan.methods:  # before minutes of training, not after
        METHODS[method].check_sources(1 + len(plan.experiment.further_sources))
    for seed in plan.seeds:
        rows += _one_seed(plan, seed, federator, display)
    return rows


def _one_seed(plan: Plan, seed: int, federator: Federator, display: Display) -> list[Row]:
    experiment = plan.variant(plan.methods[0], seed)
    with display.task("images") as progress:
        task = load_task(experiment.data, cache=plan.cache, progress=progress)
    with display.task(f"source model, seed {seed}") as progress:
        sources = ensure_sources(
            experiment,
            plan.home,
            plan.cache,
            confirm_batchnorm=plan.confirm_batchnorm or experiment.data.kind == "scenes",
            say=display.say,
            on_epoch=lambda done, of, _: progress(done, of),
        )
    cells, basis = plan.cells(seed), basis_of(task, sources.digest())
    rows = {cell: row for cell in cells if (row := kept_row(cell, plan.home, basis)) is not None}
    if rows:
        display.say(f"seed {seed}: {len(rows)} of {len(cells)} results are kept from an earlier run and used again")
    missing = [cell for cell in cells if cell not in rows]
    # Closed at once if anything in the body fails: a generator left to the garbage collector keeps its workers.
    with closing(_arms(plan, [c for c in missing if c.mode != "federated"], sources, display)) as arms:
        for cell, parts in arms:
            rows[cell] = row_of_arms(cell, parts)
            keep_row(cell, plan.home, basis, rows[cell])
    federated = [c for c in missing if c.mode == "federated"]
    if federated:
        for cell in federated:
            claim_folder(job_folder(plan.home, cell.experiment), fingerprint(cell, basis))
        federator.run(plan, [c.experiment for c in federated], display)
        shares = split_task(task, experiment, plan.experiment.federation.sites)
        before = _source_accuracy(plan, experiment, sources, rows)
        for cell in federated:
            journal = Journal(job_folder(plan.home, cell.experiment) / "rounds.jsonl")
            rows[cell] = row_of_federation(cell, journal, before, shares)
            keep_row(cell, plan.home, basis, rows[cell])
    return [rows[cell] for cell in cells]


def _arms(
    plan: Plan, cells: Sequence[Cell], sources: SourceFiles, display: Display
) -> Generator[tuple[Cell, list[ArmResult]], None, None]:
    """Runs arms in worker processes, the longest first, and yields each cell once all its parts are there."""
    places: dict[Cell, list[int | None]] = {
        c: list(range(plan.experiment.federation.sites)) if c.mode == "local" else [None] for c in cells
    }
    jobs = [(c, site) for c in cells for site in places[c]]
    if not jobs:
        return
    jobs.sort(key=lambda job: (job[1] is not None, not needs_pairs(job[0].experiment.method)))
    parts: dict[Cell, dict[int | None, ArmResult]] = {c: {} for c in cells}
    with display.task("local and centralised") as progress, _workers(plan.workers) as pool:
        waiting = {
            pool.submit(run_arm, Arm(cell.experiment, site, sources, plan.cache)): (cell, site) for cell, site in jobs
        }
        progress(0, len(jobs))
        for done, future in enumerate(as_completed(waiting), start=1):
            cell, site = waiting[future]
            parts[cell][site] = future.result()
            progress(done, len(jobs))
            if len(parts[cell]) == len(places[cell]):
                yield cell, [parts[cell][place] for place in places[cell]]


@contextmanager
def _workers(count: int) -> Iterator[ProcessPoolExecutor]:
    """Worker processes that end at once if the body does not end well."""
    pool = ProcessPoolExecutor(count, multiprocessing.get_context("spawn"), _live_and_die_with_parent)
    try:
        yield pool
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        for child in multiprocessing.active_children():
            child.terminate()  # an arm may run for minutes, and its result has nobody to go to
        raise
    finally:
        pool.shutdown()


def _live_and_die_with_parent() -> None:
    """Ctrl-C reaches the whole process group, but only the parent says what becomes of it; if it is killed, we end."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    if (parent := multiprocessing.parent_process()) is not None:
        parent.join()
        os._exit(1)


def _source_accuracy(plan: Plan, experiment: Experiment, sources: SourceFiles, rows: dict[Cell, Row]) -> float:
    """Held-out accuracy of the source model; every curve but a federation's own starts with it."""
    known = [row.curve[0] for row in rows.values()]
    if known:
        return known[0]
    unadapted = plan.variant("unadapted", experiment.seed)
    arm = Arm(unadapted, None, sources, plan.cache)
    return row_of_arms(Cell(unadapted, "unadapted"), [run_arm(arm)]).accuracy


def elapsed(since: float) -> str:
    """Minutes and seconds since a monotonic time."""
    seconds = round(time.monotonic() - since)
    return f"{seconds // 60} min {seconds % 60:02d} s"
