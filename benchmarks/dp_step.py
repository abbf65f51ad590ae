"""Time and memory of a DP step on TI pairs over a plain TI step, by scope: ratios from one run, interleaved.

Each arm has a process of its own for memory: largest resident size during two steps above that just before them, when
networks, images and the source's features are there (Linux). Times are medians of steps taken in turn in one process:
CPU time, since machines are shared.

Usage::

    python benchmarks/dp_step.py [--backbone tiny] [--size 48] [--pairs 96] [--chunk 32] [--steps 7] [--json]
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from socket_core.config import Experiment, parse_experiment
from socket_core.data.types import Images, Pairs
from socket_core.methods.base import TiBatch
from socket_core.methods.socket import Socket
from socket_core.models import build_network
from socket_core.privacy.dp_step import DpStep
from socket_core.privacy.records import Records

SCOPES = ("bottleneck", "bn_affine", "last_stage", "all")
CLASSES = 8


def experiment(options: argparse.Namespace, scope: str) -> Experiment:
    """One view a pair and all pairs in each step, so that both kinds of step see the same images."""
    privacy = {
        "sigma": 1.0,
        "sample_rate": 1.0,
        "expected_batch": options.pairs,
        "scope": scope,
        "chunk": options.chunk,
    }
    raw = {
        "device": "cpu",
        "data": {"size": options.size},
        "method": {"trust": "always", "ti_views": 1, "batch": options.pairs},
        "privacy": privacy,
    }
    return parse_experiment(raw, where="benchmark")


def stepper(options: argparse.Namespace, arm: str) -> Callable[[], None]:
    """One step of ``plain`` or of DP in a scope, ready to be taken again and again."""
    rng = np.random.default_rng(0)
    shape = (options.pairs, options.size, options.size)
    rgb = Images(rng.integers(0, 256, (*shape, 3), dtype=np.uint8), 255.0)
    pairs = Pairs(rgb, Images(rng.integers(0, 10_000, shape, dtype=np.uint16), 10_000.0))
    cfg = experiment(options, "all" if arm == "plain" else arm)
    method = Socket(cfg.method, "local")
    target, source = (
        build_network(options.backbone, 256 if options.backbone != "tiny" else 64, CLASSES).to(
            memory_format=torch.channels_last
        )
        for _ in range(2)
    )
    method.configure(target, source)
    records = Records(pairs, source, cfg, torch.device("cpu"))
    if arm != "plain":
        dp = DpStep(method, records, cfg, charged=1_000_000)
        return lambda: dp.step(1.0)
    x, features = records.batch(np.arange(options.pairs))
    images = x[:, 0].contiguous(memory_format=torch.channels_last)
    batch, optimiser = TiBatch(images, features[:, 0]), method.optimiser()

    def plain() -> None:
        optimiser.zero_grad()
        method._feature_distance(batch.source_features, target.features(batch.x)).backward()
        optimiser.step(1.0)

    return plain


def seconds(options: argparse.Namespace) -> dict[str, float]:
    """Median CPU seconds of a step of each arm."""
    steps = {arm: stepper(options, arm) for arm in ("plain", *SCOPES)}
    taken: dict[str, list[float]] = {arm: [] for arm in steps}
    for turn in range(options.steps + 1):
        for arm, step in steps.items():
            start = time.process_time()
            step()
            if turn:  # the first one warms up
                taken[arm].append(time.process_time() - start)
    return {arm: statistics.median(times) for arm, times in taken.items()}


def megabytes(options: argparse.Namespace, arm: str) -> float:
    """What two steps of one arm need besides what was there before them."""
    flags = [f"--{key}={value}" for key, value in vars(options).items() if key not in ("arm", "json")]
    done = subprocess.run(  # this very file
        [sys.executable, __file__, *flags, f"--arm={arm}"], check=True, capture_output=True, text=True
    )
    return float(done.stdout)


def resident(key: str) -> float:
    """MB of this process now (``VmRSS``) or at most (``VmHWM``)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(key)) / 1024


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Time and memory of a DP step over a plain TI step.")
    parser.add_argument("--backbone", default="tiny")
    for name, default in (("size", 48), ("pairs", 96), ("chunk", 32), ("steps", 7)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--arm", default="", help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.arm:
        stepper(argparse.Namespace(**{**vars(options), "pairs": 2}), options.arm)()  # loads code that steps use
        step = stepper(options, options.arm)
        before = resident("VmRSS")
        Path("/proc/self/clear_refs").write_text("5")  # the largest size is counted anew from here
        for _ in range(2):
            step()
        print(resident("VmHWM") - before)
        return
    times = seconds(options)
    memory = {arm: megabytes(options, arm) for arm in times}
    rows: list[dict[str, Any]] = [
        {
            "arm": arm,
            "seconds": t,
            "time": t / times["plain"],
            "mb": memory[arm],
            "memory": memory[arm] / memory["plain"],
        }
        for arm, t in times.items()
    ]
    if options.json:
        print(json.dumps({"settings": vars(options), "rows": rows}))
        return
    print(f"{options.backbone}, {options.size} px, {options.pairs} pairs, chunk {options.chunk}, one thread")
    for row in rows:
        print(
            f"{row['arm']:12} {row['seconds']:7.3f} s  x{row['time']:<6.2f} {row['mb']:6.0f} MB  x{row['memory']:.2f}"
        )


if __name__ == "__main__":
    main()
