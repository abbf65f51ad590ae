"""The owner's server by number of sites: memory over a round, and CPU time for each update that it handles.

Payloads are updates in float32, whatever they travel in. The baseline is what is there when sites have enrolled: the
release, the global parameters, libraries. Above it come request, replies, screening, sum and checkpoint.
"""

from __future__ import annotations

import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from flwr.app import Message, RecordDict

from benchmarks.child import Found, Peak, in_child
from benchmarks.federation import release_in
from benchmarks.harness import Run, line
from benchmarks.record import Figure, Part
from benchmarks.stand_ins import NetworkGrid, with_own_bytes
from benchmarks.subjects import RESNET50, TINY, experiment
from protos.codec import ENROL, TRAIN, decode, encode, sha256, specs_to_proto
from protos.wire_pb2 import Enrolment, Evaluation, RoundRequest, Update
from server import rounds
from server.job import Job
from server.sources import source_files
from socket_core.config import Experiment, UpdateType
from socket_core.exchange import length, travelling_specs
from socket_core.packing import pack

MEGABYTE = 2**20


class StandIns:
    """Answers for all sites.

    Args:
        asked: The experiment.
        job: Its job, which knows the network.
    """

    def __init__(self, asked: Experiment, job: Job) -> None:
        dtype: UpdateType = asked.federation.update_dtype
        network = job.release.network()
        self.specs, self.dtype = travelling_specs(network, asked.federation.bn_policy), dtype
        change = np.random.default_rng(0).standard_normal(length(self.specs), dtype=np.float32)
        change *= np.float32(1e-4)
        self._delta = pack(change, self.specs, dtype)
        # Made once: what a site does for its update is not the server's time.
        self._sum, self._arrays = sha256(self._delta.values), encode(Update(), {"delta": self._delta.values})

    def answer(self, message: Message) -> RecordDict:
        """To any request."""
        site, kind = f"site-{message.metadata.dst_node_id:03d}", message.metadata.message_type
        if kind == ENROL:
            return encode(Enrolment(site=site, modality="depth", has_release=True))
        request = decode(message.content, RoundRequest)
        if kind != TRAIN:
            return encode(Evaluation(experiment=request.experiment, site=site, round=request.round))
        update = Update(experiment=request.experiment, site=site, round=request.round, examples=10)
        update.tensors.extend(specs_to_proto(self.specs, self.dtype))
        update.scales.extend(self._delta.scales.tolist())
        update.delta_sha256 = self._sum
        out = with_own_bytes(self._arrays)
        out["wire"] = encode(update)["wire"]
        return out


def one_round(backbone: str, sites: int, dtype: UpdateType) -> Found:
    """A round of so many sites, in this process: largest size above the baseline in payloads, CPU seconds."""
    subject = {"tiny": TINY, "resnet50": RESNET50}[backbone]
    federation: dict[str, Any] = {"sites": sites, "quorum": sites, "rounds": 1, "update_dtype": dtype}
    asked = experiment(subject, federation=federation | {"evaluate_every": 0})
    with TemporaryDirectory() as folder:
        home = Path(folder) / "home"
        release_in(home, asked)
        job = Job.of(asked, source_files(home, asked), home / "job")
        stand_ins, marks = StandIns(asked, job), dict[str, float]()
        peaks: list[Peak] = []
        grid = NetworkGrid(stand_ins.answer, range(2, sites + 2))

        def observe(step: str, _facts: dict[str, Any]) -> None:
            if step == "enrolled":
                peaks.append(Peak())
                grid.spent = 0.0
                marks["start"] = time.process_time()
            elif step == "aggregated":
                marks["aggregated"] = time.process_time()
            elif step == "checkpoint saved":
                marks["mb"] = peaks[0].above()

        rounds.run(grid, job, observe)
    payload = length(stand_ins.specs) * 4 / MEGABYTE
    return {
        "payloads": marks["mb"] / payload,
        "seconds": marks["aggregated"] - marks["start"] - grid.spent,
        "payload_mb": payload,
    }


def measure(run: Run) -> Part:
    """Several numbers of sites, a process each."""
    backbone, counts = ("tiny", (2, 8)) if run.quick else ("resnet50", (2, 8, 32))
    figures = []
    for dtype in update_types():
        found = []
        for sites in counts:
            found.append(in_child("memory", "one_round", backbone=backbone, sites=sites, dtype=dtype))
            peak = found[-1]["payloads"]
            figures.append(Figure(f"{backbone} {dtype}, {sites} sites: peak", peak, "payloads", "baseline"))
            run.tell(f"{dtype}, {sites} sites: {peak:.2f} payloads above the baseline")
        fit = line(counts, [one["payloads"] for one in found])
        figures.append(Figure(f"{backbone} {dtype}: peak, each further site", fit.slope, "payloads"))
        fit = line(counts, [one["seconds"] for one in found])
        figures.append(Figure(f"{backbone} {dtype}: server, each further update", fit.slope, "s"))
    payload = found[0]["payload_mb"]
    return Part({"payload": f"{payload:.1f} MB", "rounds": 1, "processes": "one for each row"}, figures)


def update_types() -> tuple[UpdateType, ...]:
    """What updates may travel in."""
    return ("float32", "float16", "int8")
