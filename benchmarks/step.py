"""One SOCKET step over its bound, in both memory formats, against hooks and against a first implementation.

The bound is a forward and backward pass of the TR batch and of the TI batch with a trivial loss, and the optimiser:
what no implementation of the method can do without.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from benchmarks.harness import Run, interleaved, ratio, seconds
from benchmarks.naive_socket import NaiveSocket
from benchmarks.record import Part, figure
from benchmarks.subjects import CLASSES, RESNET18, TINY, Subject, experiment, inputs, networks
from socket_core.batchnorm import bn_layers, bn_mode
from socket_core.losses import bn_matching
from socket_core.methods.base import Terms, TiBatch, TrBatch
from socket_core.methods.socket import Socket
from socket_core.models import Model, Network, half_precision
from socket_core.translators import Bridge

Step = Callable[[], object]
CPU = torch.device("cpu")
HALF = "SOCKET, bfloat16, channels last"
FORMATS = {"NCHW": torch.contiguous_format, "channels last": torch.channels_last}


class HookedSocket(Socket):
    """The same method with moments from forward hooks that read each BatchNorm's input once more."""

    def configure(self, target: Model, source: Model, bridge: Bridge | None = None) -> None:
        """Also keeps the source's running statistics in lists of its own."""
        super().configure(target, source, bridge)
        layers = [m for m in bn_layers(source).values() if isinstance(m, nn.BatchNorm2d)]
        self._running = [(m.running_mean, m.running_var) for m in layers]

    def step(self, tr: TrBatch, ti: TiBatch | None) -> Terms:
        """As the product's."""
        assert ti is not None
        found: list[tuple[Tensor, Tensor]] = []

        def record(_layer: nn.Module, given: tuple[Tensor, ...]) -> None:
            var, mean = torch.var_mean(given[0], dim=(0, 2, 3), correction=0)
            found.append((mean, var))

        layers = [m for m in bn_layers(self.target).values() if isinstance(m, nn.BatchNorm2d)]
        handles = [layer.register_forward_pre_hook(record) for layer in layers]
        with bn_mode(self.target, self.tr_mode()):
            logits = self.target(tr.x)
        for handle in handles:
            handle.remove()
        terms = self.tr_terms(logits, tr.index)
        means, variances = [mean for mean, _ in found], [var for _, var in found]
        aims = [m for m, _ in self._running if m is not None], [v for _, v in self._running if v is not None]
        terms["bn"] = self.weights.bn * bn_matching(means, variances, *aims, self.cfg.first_layer)
        with bn_mode(self.target, self.ti_mode()):
            features = self.target.features(ti.x)
        terms["ti"] = self.weights.ti * self._feature_distance(ti.source_features, features)
        return terms


def product_step(
    subject: Subject,
    memory_format: torch.memory_format,
    kind: type[Socket] = Socket,
    *,
    half: bool = False,
    device: torch.device = CPU,
) -> Step:
    """The product's step on batches that are there: loss terms, backward, optimiser; ``half``: in bfloat16."""
    cfg = experiment(subject)
    target, source = networks(subject, memory_format)
    tr, ti = on(device, *batches(subject, memory_format, source))
    method = kind(cfg.method, cfg.federation.bn_policy)
    method.configure(target.to(device), source.to(device))
    method.check()
    method.labels = torch.arange(subject.batch, device=device) % CLASSES
    optimiser = method.optimiser()

    def step() -> None:
        optimiser.zero_grad()
        with half_precision(target, half):
            torch.stack(list(method.step(tr, ti).values())).sum().backward()
        optimiser.step(1e-3)

    return step


def bound_step(
    subject: Subject, memory_format: torch.memory_format, *, half: bool = False, device: torch.device = CPU
) -> Step:
    """Forward and backward of both batches, and the product's optimiser: nothing of the method."""
    cfg = experiment(subject)
    target, source = networks(subject, memory_format)
    tr, ti = on(device, *batches(subject, memory_format, source))
    method = Socket(cfg.method, cfg.federation.bn_policy)
    method.configure(target.to(device), source.to(device))
    optimiser = method.optimiser()
    target.train()

    def step() -> None:
        optimiser.zero_grad()
        with half_precision(target, half):
            (target(tr.x).mean() + target.features(ti.x).mean()).backward()
        optimiser.step(1e-3)

    return step


def naive_step(subject: Subject, device: torch.device = CPU) -> Step:
    """The first implementation's, on batches that are there."""
    _, source = networks(subject, torch.contiguous_format)
    tr, ti = on(device, *batches(subject, torch.contiguous_format, source))
    naive, labels = NaiveSocket([source.to(device)]), torch.arange(subject.batch, device=device) % CLASSES
    return lambda: naive.step(tr.x, labels, ti.x, [ti.source_features])


def on(device: torch.device, tr: TrBatch, ti: TiBatch) -> tuple[TrBatch, TiBatch]:
    """Both batches on the device."""
    return TrBatch(tr.x.to(device), tr.index.to(device)), TiBatch(ti.x.to(device), ti.source_features.to(device))


@torch.no_grad()
def batches(subject: Subject, memory_format: torch.memory_format, source: Network) -> tuple[TrBatch, TiBatch]:
    """A TR and a TI batch of random numbers, with the source's features of other random numbers."""
    features = source.eval().features(inputs(subject, memory_format, seed=2))
    tr = TrBatch(inputs(subject, memory_format, seed=0), torch.arange(subject.batch))
    return tr, TiBatch(inputs(subject, memory_format, seed=1), features)


def arms(subject: Subject) -> dict[str, Step]:
    """All arms on one subject."""
    made: dict[str, Step] = {}
    for name, memory_format in FORMATS.items():
        made[f"bound, {name}"] = bound_step(subject, memory_format)
        made[f"SOCKET, {name}"] = product_step(subject, memory_format)
        made[f"hooks, {name}"] = product_step(subject, memory_format, HookedSocket)
    made[HALF] = product_step(subject, torch.channels_last, half=True)
    return made | {"first implementation": naive_step(subject)}


def measure(run: Run) -> Part:
    """Both subjects; quick leaves the large one out."""
    figures, subjects = (
        [],
        {TINY: run.rounds(61, quick=3)},
    )  # of steps so short many, or noise is as large as what is asked
    if not run.quick:
        subjects[RESNET18] = run.rounds(11, quick=3)
    for subject, rounds in subjects.items():
        taken = interleaved(arms(subject), rounds, tell=run.telling_of(subject))
        figures.append(figure(f"{subject}: bound, NCHW", seconds(taken, "bound, NCHW"), "ms", scale=1e3))
        for name in FORMATS:
            for arm in (f"SOCKET, {name}", f"hooks, {name}"):
                figures.append(figure(f"{subject}: {arm}", ratio(taken, arm, f"bound, {name}"), "x", f"bound, {name}"))
        over = "bound, NCHW"
        for arm in ("bound, channels last", "SOCKET, channels last", "first implementation"):
            figures.append(figure(f"{subject}: {arm}", ratio(taken, arm, over), "x", over))
        over = "SOCKET, channels last"
        for arm in ("first implementation", HALF):
            figures.append(figure(f"{subject}: {arm}", ratio(taken, arm, over), "x", over))
    settings = {
        "batch": "32 TR + 32 TI",
        "classes": CLASSES,
        "threads": 1,
        "rounds": " and ".join(map(str, subjects.values())),
    }
    return Part(settings | {"bfloat16 in hardware": "yes" if knows_bfloat16() else "no"}, figures)


def knows_bfloat16() -> bool:
    """Whether this CPU multiplies bfloat16 itself; Linux on x86, elsewhere no."""
    try:
        words = set(Path("/proc/cpuinfo").read_text().split())
    except OSError:
        return False
    return bool(words & {"avx512_bf16", "amx_bf16"})
