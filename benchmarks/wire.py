"""Bytes of a round for each site, by what updates travel in, and the time to pack and unpack them.

Bytes are those of the second of three rounds of a real federation of two sites in this process, as ``rounds.jsonl``
counts them: payload and arrays, without Flower's framing. The naive count is the whole state in float32 both ways, as a
plain Flower app sends it; with the source model in it, as an app whose model holds both networks does.
"""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, get_args

import numpy as np
import torch

from benchmarks.federation import Trial
from benchmarks.harness import Arm, Run, interleaved, seconds
from benchmarks.record import Figure, Part, figure
from benchmarks.subjects import RESNET50, TINY, Subject, experiment, networks
from socket_core.config import UpdateType
from socket_core.exchange import flatten, load_flat, parameters_of, travelling_specs
from socket_core.models import network_shapes
from socket_core.packing import pack

SMALL = 48
"""Image size of the federations: bytes do not depend on it."""

SCENES = {"source_train": 16, "source_test": 8, "target_train": 32, "target_test": 8, "ti": 24}


def federated_bytes(subject: Subject, ways: dict[str, Any]) -> tuple[float, float]:
    """Bytes down and up of the second of three rounds, for each site.

    Before the first, sites hold what they need; after the last, parameters go down once more to be tested.
    """
    federation = {"sites": 2, "quorum": 2, "rounds": 3, "steps": 1, "partition": "iid", "evaluate_every": 0}
    data = {"size": SMALL, "scenes": SCENES}
    asked = experiment(subject, data=data, federation=federation | ways, method={"batch": 4})
    with TemporaryDirectory() as folder:
        _, record, _ = Trial(Path(folder), asked).run()
    return record["bytes_down"] / 2, record["bytes_up"] / 2


TYPES: tuple[UpdateType, ...] = get_args(UpdateType)


def naive_bytes(subject: Subject) -> int:
    """The network's whole state in float32."""
    state = network_shapes(subject.backbone, subject.bottleneck, 8)
    return sum(4 * math.prod(t.shape) for t in state.values())


def ways() -> dict[str, dict[str, Any]]:
    """Settings of the federation by what is said to travel."""
    return {f"{dtype} up, {dtype} down": {"update_dtype": dtype, "download_dtype": dtype} for dtype in TYPES}


def packing(subject: Subject) -> dict[str, Arm]:
    """A change from a network into what travels, and parameters into a network."""
    network, _ = networks(subject, torch.contiguous_format)
    specs, parameters = travelling_specs(network, "local"), parameters_of(network)
    before = flatten(parameters, specs)
    change = np.random.default_rng(0).standard_normal(len(before), dtype=np.float32) * np.float32(1e-4)
    arms: dict[str, Arm] = {
        "flatten and subtract": lambda: flatten(parameters, specs) - before,
        "load into the network": lambda: load_flat(network, before, specs),
    }
    for dtype in TYPES:
        arms[f"pack {dtype}"] = partial(pack, change, specs, dtype)
        arms[f"unpack {dtype}"] = pack(change, specs, dtype).floats
    return arms


def measure(run: Run) -> Part:
    """Bytes of two networks, then times of the largest."""
    figures = []
    for subject in (TINY,) if run.quick else (TINY, RESNET50):
        naive = naive_bytes(subject)
        for name, settings in ways().items():
            down, up = federated_bytes(subject, settings)
            run.tell(f"{subject.backbone}, {name}: {down:,.0f} bytes down, {up:,.0f} up")
            name = f"{subject.backbone}, {name}"
            figures.append(Figure(f"{name}: a site's round", (down + up) / 1e6, "MB"))
            for over, times in (("state both ways", 2), ("state with source both ways", 4)):
                figures.append(Figure(name, (down + up) / (times * naive), "x", over))
    subject, rounds = TINY if run.quick else RESNET50, run.rounds(5, quick=3)
    taken = interleaved(packing(subject), rounds, tell=run.tell)
    for name in taken[0]:
        figures.append(figure(f"{subject.backbone}: {name}", seconds(taken, name), "ms", scale=1e3))
    return Part({"sites": 2, "rounds": rounds}, figures)
