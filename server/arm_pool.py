"""Arms side by side in processes that end with the one that started them."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from pathlib import Path

from server.arms import Arm, ArmResult, run_arm
from server.cells import Cell
from server.site_log import log_to
from server.sources import SourceFiles
from socket_core.methods import needs_pairs


def run_arms(
    cells: Sequence[Cell],
    sources: SourceFiles,
    cache: Path,
    workers: int,
    log: Path,
    on_part: Callable[[Cell, int, int], None],
) -> Generator[tuple[Cell, list[ArmResult]], None, None]:
    """Runs arms in worker processes, the longest first, and yields each cell once all its parts are there.

    Args:
        cells: None of them federated.
        sources: Releases of the source models.
        cache: Rendered or decoded images.
        workers: Processes.
        log: File for what sites warn of.
        on_part: Called with a cell, its parts that are there, and all of its parts.
    """
    places: dict[Cell, list[int | None]] = {
        c: list(range(c.experiment.federation.sites)) if c.mode == "local" else [None] for c in cells
    }
    jobs = [(c, site) for c in cells for site in places[c]]
    if not jobs:
        return
    jobs.sort(key=lambda job: (job[1] is not None, not needs_pairs(job[0].experiment.method)))
    parts: dict[Cell, dict[int | None, ArmResult]] = {c: {} for c in cells}
    with _processes(min(workers, len(jobs)), log) as pool:
        waiting = {
            pool.submit(run_arm, Arm(cell.experiment, site, sources, cache)): (cell, site) for cell, site in jobs
        }
        for future in as_completed(waiting):
            cell, site = waiting[future]
            parts[cell][site] = future.result()
            if len(parts[cell]) == len(places[cell]):
                yield cell, [parts[cell][place] for place in places[cell]]
            else:
                on_part(cell, len(parts[cell]), len(places[cell]))


@contextmanager
def _processes(count: int, log: Path) -> Iterator[ProcessPoolExecutor]:
    """Worker processes that end at once if the body does not end well."""
    pool = ProcessPoolExecutor(count, multiprocessing.get_context("spawn"), _live_and_die_with_parent, (log,))
    try:
        yield pool
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        for child in multiprocessing.active_children():
            child.terminate()  # an arm may run for minutes, and its result has nobody to go to
        raise
    finally:
        pool.shutdown()


def _live_and_die_with_parent(log: Path) -> None:
    """Ctrl-C reaches the whole process group, but only the parent says what becomes of it; if it is killed, we end."""
    log_to(log)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    if (parent := multiprocessing.parent_process()) is not None:
        parent.join()
        os._exit(1)
