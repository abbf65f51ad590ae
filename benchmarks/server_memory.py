"""Memory of the owner's ServerApp by number of sites: largest resident size over two rounds, a process for each number.

Sites are stand-ins in the same process that send a small random change: no image, no training. What Flower's SuperLink
holds besides is not in it; copies that the stand-ins' grid makes are, so the slope is an upper bound.

Usage::

    python benchmarks/server_memory.py [--backbone resnet18] [--sites 3 8 32] [--update-dtype float32] [--json]
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from flwr.app import Context, Message, RecordDict

from protos.codec import ENROL, TRAIN, decode, encode, sha256, specs_to_proto
from protos.wire_pb2 import Enrolment, Evaluation, RoundRequest, Update
from server import rounds
from server.job import Job
from server.local_grid import LocalGrid
from socket_core.config import Experiment, UpdateType, parse_experiment
from socket_core.exchange import length, travelling_specs
from socket_core.models import Network, build_network
from socket_core.packing import pack
from socket_core.release import read_release, write_release

MEGABYTE = 2**20


def job_in(folder: Path, options: argparse.Namespace, sites: int) -> tuple[Job, Network]:
    """A job over a release with random weights."""
    network, key = build_network(options.backbone, 256, 10), Ed25519PrivateKey.generate()
    facts: dict[str, Any] = {"name": "memory", "created_at": 0, "source_accuracy": 0.0, "epochs": 0, "seed": 0}
    facts |= {"best_epoch": 0, "confirm_batchnorm": True, "image_size": 32, "mean": (0.5,) * 3, "std": (0.2,) * 3}
    classes = [str(i) for i in range(10)]
    write_release(
        folder / "release", network, key, backbone=options.backbone, bottleneck_dim=256, classes=classes, **facts
    )
    federation = {"sites": sites, "quorum": sites, "rounds": 2, "update_dtype": options.update_dtype}
    raw = {"network": {"backbone": options.backbone, "bottleneck_dim": 256}, "federation": federation}
    experiment = parse_experiment(raw | {"data": {"size": 32}}, where="benchmark")
    release = read_release(folder / "release", key.public_key())
    return Job(experiment, release, folder / "release", folder / "job"), network


def stand_in(experiment: Experiment, network: Network, dtype: UpdateType) -> Any:
    """Answers as sites do, with a change of noise."""
    specs = travelling_specs(network, experiment.federation.bn_policy)
    change = np.random.default_rng(0).normal(0, 1e-4, length(specs)).astype(np.float32)

    def answer(message: Message, context: Context) -> Message:
        site, kind = f"site-{context.node_id:03d}", message.metadata.message_type
        if kind == ENROL:
            return Message(encode(Enrolment(site=site, modality="depth", has_release=True)), reply_to=message)
        request = decode(message.content, RoundRequest)
        if kind != TRAIN:
            return Message(
                encode(Evaluation(experiment=request.experiment, site=site, round=request.round)), reply_to=message
            )
        delta = pack(change, specs, dtype)
        update = Update(experiment=request.experiment, site=site, round=request.round, examples=10)
        update.tensors.extend(specs_to_proto(specs, dtype))
        update.delta_sha256 = sha256(delta.values)
        update.scales.extend(delta.scales.tolist())
        return Message(encode(update, {"delta": delta.values}), reply_to=message)

    return answer


def one(options: argparse.Namespace, sites: int) -> dict[str, float]:
    """Runs the job in this process."""
    with TemporaryDirectory() as folder:
        job, network = job_in(Path(folder), options, sites)
        before, started = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, time.monotonic()
        contexts = {n: Context(1, n, {}, RecordDict(), {}) for n in range(2, sites + 2)}
        rounds.run(LocalGrid(stand_in(job.experiment, network, options.update_dtype), contexts), job)
        update = length(travelling_specs(network, job.experiment.federation.bn_policy))
    return {
        "sites": sites,
        "before_mb": before,
        "largest_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "update_mb": update * np.dtype(options.update_dtype).itemsize / MEGABYTE,
        "seconds": time.monotonic() - started,
    }


def main() -> None:
    """Measures each number of sites in a process of its own, and prints."""
    parser = argparse.ArgumentParser(description="Memory of the owner's ServerApp by number of sites.")
    parser.add_argument("--backbone", default="resnet18")
    parser.add_argument("--sites", type=int, nargs="+", default=[3, 8, 32])
    parser.add_argument("--update-dtype", choices=["float32", "float16", "int8"], default="float32")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--one", type=int, default=0, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(one(options, options.one)))
        return
    flags = [f"--backbone={options.backbone}", f"--update-dtype={options.update_dtype}"]
    rows = [
        json.loads(
            subprocess.run(  # this very file
                [sys.executable, __file__, *flags, f"--one={sites}"], check=True, capture_output=True, text=True
            ).stdout.splitlines()[-1]
        )
        for sites in options.sites
    ]
    if options.json:
        print(json.dumps({"backbone": options.backbone, "update_dtype": options.update_dtype, "rows": rows}))
        return
    print(f"{options.backbone}, updates of {rows[0]['update_mb']:.1f} MB ({options.update_dtype}), 2 rounds")
    for row in rows:
        slope = (row["largest_mb"] - row["before_mb"]) / row["sites"] / row["update_mb"]
        print(
            f"{row['sites']:3} sites  {row['largest_mb']:7.0f} MB at most ({row['before_mb']:.0f} before the rounds), "
            f"{slope:4.1f} updates a site; {row['seconds']:.1f} s"
        )


if __name__ == "__main__":
    main()
