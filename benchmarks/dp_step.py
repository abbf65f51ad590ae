"""Time and memory of a DP step on TI pairs over a plain TI step on the same pairs, by scope of what DP trains.

Times are of steps taken in turn in one process. For memory each arm has a process of its own: largest resident size
during two steps above that just before them, when networks, images and the source's features are there (Linux).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from benchmarks.child import Found, Peak, in_child
from benchmarks.harness import Run, interleaved, ratio, seconds
from benchmarks.record import Figure, Part, figure
from benchmarks.subjects import RESNET18, TINY, Subject, experiment, networks, pairs
from socket_core.config import Experiment
from socket_core.methods.base import TiBatch
from socket_core.methods.socket import Socket
from socket_core.privacy.dp_step import DpStep
from socket_core.privacy.records import Records

SCOPES = ("bottleneck", "bn_affine", "last_stage", "all")
SUBJECTS: dict[str, tuple[Subject, int, int]] = {"tiny": (TINY, 96, 32), "resnet18": (RESNET18, 32, 16)}
"""Network, pairs of a step, pairs of a chunk."""


def asked(subject: Subject, count: int, chunk: int, scope: str) -> Experiment:
    """One view a pair and all pairs in each step, so that both kinds of step see the same images."""
    privacy = {"sigma": 1.0, "sample_rate": 1.0, "expected_batch": count, "scope": scope, "chunk": chunk}
    method = {"trust": "always", "ti_views": 1, "batch": count}
    return experiment(subject, method=method, privacy=privacy)


def stepper(name: str, arm: str, count: int | None = None) -> Callable[[], object]:
    """One step of ``plain`` or of DP in a scope, ready to be taken again and again."""
    subject, whole, chunk = SUBJECTS[name]
    count = count or whole
    cfg, data = asked(subject, count, chunk, "all" if arm == "plain" else arm), pairs(count, subject.size)
    method = Socket(cfg.method, "local")
    target, source = networks(subject)
    method.configure(target, source)
    records = Records(data, source, cfg, torch.device("cpu"))
    if arm != "plain":
        dp = DpStep(method, records, cfg, charged=1_000_000)
        return lambda: dp.step(1.0)
    x, features = records.batch(np.arange(count))
    images = x[:, 0].contiguous(memory_format=torch.channels_last)
    batch, optimiser = TiBatch(images, features[:, 0]), method.optimiser()

    def plain() -> None:
        optimiser.zero_grad()
        method._feature_distance(batch.source_features, target.features(batch.x)).backward()
        optimiser.step(1.0)

    return plain


def memory(name: str, arm: str) -> Found:
    """What two steps of one arm need besides what was there before them."""
    stepper(name, arm, 2)()  # loads code that steps use
    step = stepper(name, arm)
    peak = Peak()
    for _ in range(2):
        step()
    return {"mb": peak.above()}


def measure(run: Run) -> Part:
    """The tiny network and ResNet-18, all scopes; quick: two scopes of the tiny one."""
    rounds, figures, sizes = run.rounds(7, quick=2), [], {}
    scopes = ("bottleneck", "all") if run.quick else SCOPES
    for name in ("tiny",) if run.quick else SUBJECTS:
        steps = {arm: stepper(name, arm) for arm in ("plain", *scopes)}
        taken = interleaved(steps, rounds, tell=run.telling_of(name))
        figures.append(figure(f"{name}: plain TI step", seconds(taken, "plain"), "ms", scale=1e3))
        figures += [figure(f"{name}, {s}: time", ratio(taken, s, "plain"), "x", "plain TI step") for s in scopes]
        mb = {}
        for arm in steps:
            mb[arm] = in_child("dp_step", "memory", name=name, arm=arm)["mb"]
            run.tell(f"{name}: memory of {arm}, {mb[arm]:.0f} MB")
        figures.append(Figure(f"{name}: plain TI step, memory", mb["plain"], "MB"))
        figures += [Figure(f"{name}, {s}: memory", mb[s] / mb["plain"], "x", "plain TI step") for s in scopes]
        subject, count, chunk = SUBJECTS[name]
        sizes[str(subject)] = f"{count} pairs in chunks of {chunk}"
    return Part({**sizes, "rounds": rounds}, figures)
