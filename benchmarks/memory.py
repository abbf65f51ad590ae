"""The owner's server by number of sites: memory over three rounds, and CPU time for each update that it handles.

Payloads are updates in float32, whatever they travel in. The baseline is what is there when sites have enrolled: the
release, the global parameters, libraries. Above it come request, replies, screening, sum and checkpoint, and all that
Flower's grid does to pack and unpack. One site comes anew to each round and holds nothing, so that it is sent all
parameters while the others are sent none, or the step.
"""

from __future__ import annotations

import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, get_args

import numpy as np
from flwr.app import Message, RecordDict
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects

from benchmarks.child import Found, in_child
from benchmarks.federation import release_in
from benchmarks.harness import Run, line
from benchmarks.record import Figure, Part
from benchmarks.stand_ins import MeteredGrid, SuperLinkStandIn
from benchmarks.subjects import RESNET50, TINY, experiment
from deploy.commands import OWNER_MEMORY
from protos.codec import ENROL, TRAIN, decode, encode, sha256, specs_to_proto
from protos.wire_pb2 import Enrolment, Evaluation, RoundRequest, Update
from server import rounds
from server.job import Job
from server.sources import source_files
from socket_core.config import Experiment, UpdateType
from socket_core.exchange import length, travelling_specs
from socket_core.packing import pack

MEGABYTE = 2**20
ROUNDS = 3
FIRST, LATER = 2, 1000
"""Node of the first site, and what is added to it when that site comes anew."""
TYPES: tuple[UpdateType, ...] = get_args(UpdateType)
"""What changes travel in, up and down."""


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
        get_all_nested_objects(self._arrays)  # Flower works out the chunks and their names, and keeps them

    def answer(self, message: Message) -> RecordDict:
        """To any request."""
        number, kind = message.metadata.dst_node_id % LATER, message.metadata.message_type
        site, held = f"site-{number:03d}", b"others of 32 bytes; nobody's sum" if number == FIRST else b""
        if kind == ENROL:
            return encode(Enrolment(site=site, modality="depth", has_release=True, parameters_sha256=held))
        request = decode(message.content, RoundRequest)
        if kind != TRAIN:
            return encode(Evaluation(experiment=request.experiment, site=site, round=request.round))
        update = Update(experiment=request.experiment, site=site, round=request.round, examples=10)
        update.tensors.extend(specs_to_proto(self.specs, self.dtype))
        update.scales.extend(self._delta.scales.tolist())
        update.delta_sha256 = self._sum
        return RecordDict({"wire": encode(update)["wire"], "arrays": self._arrays["arrays"]})


def some_rounds(backbone: str, sites: int, dtype: UpdateType) -> Found:
    """Rounds of so many sites, in this process: largest size above the baseline in payloads, CPU seconds a round."""
    subject = {"tiny": TINY, "resnet50": RESNET50}[backbone]
    federation: dict[str, Any] = {"sites": sites, "quorum": sites, "rounds": ROUNDS, "evaluate_every": 0}
    asked = experiment(subject, federation=federation | {"update_dtype": dtype, "download_dtype": dtype})
    with TemporaryDirectory() as folder:
        home = Path(folder) / "home"
        release_in(home, asked)
        job = Job.of(asked, source_files(home, asked), home / "job")
        stand_ins = StandIns(asked, job)
        link = SuperLinkStandIn(stand_ins.answer, range(FIRST, sites + FIRST))
        grid, started = MeteredGrid(link), list[float]()

        def observe(step: str, _facts: dict[str, Any]) -> None:
            if step == "enrolled":
                grid.begin()
                link.spent = 0.0
                started.append(time.process_time())
            elif step == "round closed":
                link.nodes[0] += LATER

        rounds.run(grid, job, observe)
        seconds = time.process_time() - started[0] - link.spent
        grid.end()
    payload = length(stand_ins.specs) * 4 / MEGABYTE
    return {
        "payloads": max(grid.around, grid.of_flower) / payload,
        "around": grid.around / payload,
        "seconds": seconds / ROUNDS,
        "pushed": link.pushed / MEGABYTE / payload,
        "payload_mb": payload,
    }


def measure(run: Run) -> Part:
    """Several numbers of sites, a process each."""
    backbone, counts = ("tiny", (2, 8)) if run.quick else ("resnet50", (2, 8, 32))
    figures = []
    for dtype in TYPES:
        found, name = [], f"{backbone}, {dtype} both ways"
        for sites in counts:
            settings = {"backbone": backbone, "sites": sites, "dtype": dtype}
            found.append(in_child("memory", "some_rounds", environment=OWNER_MEMORY, **settings))
            one = found[-1]
            figures.append(Figure(f"{name}, {sites} sites: peak", one["payloads"], "payloads", "baseline"))
            figures.append(Figure(f"{name}, {sites} sites: but for Flower", one["around"], "payloads", "baseline"))
            run.tell(f"{name}, {sites} sites: {one['payloads']:.2f} payloads, {one['around']:.2f} without Flower's")
        fit = line(counts, [one["payloads"] for one in found])
        figures.append(Figure(f"{name}: peak, each further site", fit.slope, "payloads"))
        fit = line(counts, [one["seconds"] for one in found])
        figures.append(Figure(f"{name}: server, each further update", fit.slope, "s"))
    payload = found[0]["payload_mb"]
    settings = {"payload": f"{payload:.1f} MB", "rounds": ROUNDS, "processes": "one for each row"}
    return Part(settings | OWNER_MEMORY, figures)
