"""The sum of a round's updates alone, ResNet-50: seconds an update and memory, beside a mean over a stack."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from benchmarks.child import Found, Peak, in_child
from benchmarks.harness import Run, line
from benchmarks.record import Figure, Part
from server.aggregation import SiteUpdate, apply
from server.state import ServerState
from server.waiting import put_down
from socket_core.exchange import Flat
from socket_core.packing import as_it_is

FLOATS = {"resnet50": 23_979_200, "tiny": 143_584}
"""Of an update with ``bn_policy: local``."""


def update(floats: int, site: int) -> Flat:
    """A site's change."""
    rng = np.random.default_rng(site)
    return rng.standard_normal(floats, dtype=np.float32) * np.float32(1e-4)


def ours(floats: int, sites: int) -> Found:
    """Seconds and memory of the product's sum, which reads updates from the files where they wait."""
    with TemporaryDirectory() as folder:
        updates = []
        for site in range(sites):
            (waiting,) = put_down(Path(folder) / f"{site}.bin", [as_it_is(update(floats, site))])
            updates.append(SiteUpdate(f"site-{site:03d}", 10 + site, waiting, 1.0))
        state = ServerState("benchmark", 0, np.zeros(floats, np.float32))
        return _spent(lambda: apply(state, updates, "examples"), floats)


def stack(floats: int, sites: int) -> Found:
    """The same of a weighted mean over all updates stacked, as a first implementation has it."""
    before, weights = np.zeros(floats, np.float32), [float(10 + site) for site in range(sites)]
    return _spent(
        lambda: before + np.average(np.stack([update(floats, i) for i in range(sites)]), axis=0, weights=weights),
        floats,
        without=lambda: [update(floats, i) for i in range(sites)],
    )


def _spent(work: Callable[[], object], floats: int, without: Callable[[], object] = lambda: None) -> Found:
    """CPU seconds of ``work``, less those of what it makes ready, and its largest size in payloads."""
    start = time.process_time()
    without()
    ready = time.process_time() - start
    peak, start = Peak(), time.process_time()
    work()
    return {"seconds": time.process_time() - start - ready, "payloads": peak.above() / (floats * 4 / 2**20)}


def measure(run: Run) -> Part:
    """Both ways at several numbers of updates, a process each."""
    network, counts = ("tiny", (2, 8)) if run.quick else ("resnet50", (2, 8))
    figures, slopes = [], {}
    for way in ("ours", "stack"):
        found = []
        for sites in counts:
            found.append(in_child("aggregate", way, floats=FLOATS[network], sites=sites))
            peak = found[-1]["payloads"]
            figures.append(Figure(f"{network}, {way}, {sites} updates: peak", peak, "payloads", "baseline"))
            run.tell(f"{way}, {sites} updates: {found[-1]['seconds']:.2f} s, {peak:.1f} payloads")
        slopes[way] = line(counts, [one["seconds"] for one in found]).slope
        figures.append(Figure(f"{network}, {way}: each update", slopes[way], "s"))
    figures.append(Figure(f"{network}: stack", slopes["stack"] / slopes["ours"], "x", "ours"))
    return Part({"floats": f"{FLOATS[network]:,}", "processes": "one for each row"}, figures)
