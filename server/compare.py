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
from server.examples import example_images
from server.federate import Federator
from server.final_networks import said_at_sites
from server.journal import Journal
from server.progress import Display
from server.results import MODES, Mode, Row
from server.sources import SourceFiles, ensure_sources
from socket_core.config import DataConfig, Experiment, MethodName
from socket_core.data.catalogue import load_task, split_task
from socket_core.data.types import TransferTask
from socket_core.methods import METHODS, needs_pairs


@dataclass(frozen=True)
class Plan:
    """What to compare.

    Attributes:
        experiment: All but method and seed.
        methods: In the order of the table; none if there are variants.
        seeds: Each trains its own source model.
        home: Where everything is written.
        cache: Rendered or decoded images.
        workers: Processes side by side.
        confirm_batchnorm: The owner's word that the releases made here may be published; embedded scenes need none.
        variants: Further rows after those of the methods, each called by its experiment's name; they share the
            source model, see :func:`server.variants.load_variants`.
        modes: Those of methods that can be run in several; unadapted and oracle have one anyway.
    """

    experiment: Experiment
    methods: tuple[MethodName, ...]
    seeds: tuple[int, ...]
    home: Path
    cache: Path
    workers: int = field(default_factory=lambda: max(1, multiprocessing.cpu_count()))
    confirm_batchnorm: bool = False
    variants: tuple[Experiment, ...] = ()
    modes: tuple[Mode, ...] = MODES

    def variant(self, method: MethodName, seed: int) -> Experiment:
        """The experiment with this method and seed."""
        chosen = self.experiment.method.model_copy(update={"name": method})
        return _as_compared(self.experiment.model_copy(update={"method": chosen}), seed)

    def cells(self, seed: int) -> list[Cell]:
        """The cells of one seed, in the order of the table."""
        rows = [(str(m), self.variant(m, seed)) for m in self.methods]
        rows += [(v.name, _as_compared(v, seed)) for v in self.variants]
        return [Cell(e, mode, label) for label, e in rows for mode in modes_of(e.method.name, self.modes)]


def _as_compared(experiment: Experiment, seed: int) -> Experiment:
    # A comparison wants every site in every round, and a point on the curve after each.
    all_sites = {"quorum": experiment.federation.sites, "evaluate_every": 1}
    federation = experiment.federation.model_copy(update=all_sites)
    return experiment.model_copy(update={"seed": seed, "federation": federation})


def modes_of(method: MethodName, among: Sequence[Mode] = MODES) -> tuple[Mode, ...]:
    """Which modes make sense: nothing to federate without adaptation, and the oracle is one bound.

    Args:
        method: Name of the method.
        among: Modes that are asked for, where there is a choice.
    """
    if method == "unadapted":
        return ("unadapted",)
    return ("centralised",) if METHODS[method].oracle else tuple(mode for mode in MODES if mode in among)


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
    experiment = _as_compared(plan.experiment, seed)
    cells = plan.cells(seed)
    tasks = {}
    for data in dict.fromkeys(cell.experiment.data for cell in cells):
        with display.task("images") as progress:
            tasks[data] = load_task(data, cache=plan.cache, progress=progress)
    _check_splits(cells, tasks)
    with display.task(f"source model, seed {seed}") as progress:
        sources = ensure_sources(
            experiment,
            plan.home,
            plan.cache,
            confirm_batchnorm=plan.confirm_batchnorm or experiment.data.kind == "scenes",
            say=display.say,
            on_epoch=lambda done, of, _: progress(done, of),
        )
    of_data = {data: basis_of(task, sources.digest()) for data, task in tasks.items()}
    basis = {cell: of_data[cell.experiment.data] for cell in cells}
    rows = {cell: row for cell in cells if (row := kept_row(cell, plan.home, basis[cell])) is not None}
    if rows:
        display.say(f"seed {seed}: {len(rows)} of {len(cells)} results are kept from an earlier run and used again")
    missing = [cell for cell in cells if cell not in rows]
    # Closed at once if anything in the body fails: a generator left to the garbage collector keeps its workers.
    with closing(_arms(plan, [c for c in missing if c.mode != "federated"], sources, display)) as arms:
        for cell, parts in arms:
            rows[cell] = row_of_arms(cell, parts)
            keep_row(cell, plan.home, basis[cell], rows[cell])
    federated = [c for c in missing if c.mode == "federated"]
    if federated:
        for cell in federated:
            claim_folder(job_folder(plan.home, cell.experiment), fingerprint(cell, basis[cell]))
        federator.run(plan, [c.experiment for c in federated], display)
        before = _source_accuracy(plan, experiment, sources, rows)
        for cell in federated:
            journal = Journal(job_folder(plan.home, cell.experiment) / "rounds.jsonl")
            task = tasks[cell.experiment.data]
            shares = split_task(task, cell.experiment, cell.experiment.federation.sites)
            said = said_at_sites(plan.home, cell.experiment, sources, example_images(task))
            rows[cell] = row_of_federation(cell, journal, before, shares, said)
            keep_row(cell, plan.home, basis[cell], rows[cell])
    return [rows[cell] for cell in cells]


def _check_splits(cells: Sequence[Cell], tasks: dict[DataConfig, TransferTask]) -> None:
    """Splits every task as its cells will: if that fails, then before a source model is trained."""
    seen = set()
    for cell in cells:
        federation = cell.experiment.federation
        key = (cell.experiment.data, federation.partition, federation.sites)
        if key not in seen:
            seen.add(key)
            split_task(tasks[cell.experiment.data], cell.experiment, federation.sites)


def _arms(
    plan: Plan, cells: Sequence[Cell], sources: SourceFiles, display: Display
) -> Generator[tuple[Cell, list[ArmResult]], None, None]:
    """Runs arms in worker processes, the longest first, and yields each cell once all its parts are there."""
    places: dict[Cell, list[int | None]] = {
        c: list(range(c.experiment.federation.sites)) if c.mode == "local" else [None] for c in cells
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
