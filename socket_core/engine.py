"""The one adaptation loop: a federated site, a site alone and the centralised arm all run this.

A federation of one site with one round is one call of :func:`adapt`, and so equals centralised adaptation.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from socket_core.config import Experiment
from socket_core.data.augment import identity, join
from socket_core.data.loader import IndexStream, Loader, Preprocessing
from socket_core.data.types import Index, Pairs, SiteData
from socket_core.errors import MethodError
from socket_core.methods import Method, build_method, needs_pairs, rounds_of
from socket_core.methods.base import TiBatch, TrBatch
from socket_core.methods.oracle import Oracle
from socket_core.models import Model
from socket_core.optimiser import NesterovSgd, lr_factor
from socket_core.seeds import derive_seed


@dataclass(frozen=True)
class Segment:
    """Which part of a job runs now.

    Attributes:
        site: Stable name; with the run's seed and the round it determines every draw.
        round: 1-based.
        steps: Optimiser steps in this round.
        rounds: Rounds in the whole job, for the learning-rate schedule.
        fresh: Whether BatchNorm still holds the source's statistics, so that the method's start is due.
    """

    site: str
    round: int
    steps: int
    rounds: int
    fresh: bool


@dataclass
class AdaptReport:
    """What a segment did. Stays at the site: loss values are not sent anywhere.

    Attributes:
        steps: Optimiser steps taken.
        visits: Images seen by gradient steps (a TI pair counts once).
        losses: Mean weighted loss terms over the segment, by name.
    """

    steps: int = 0
    visits: int = 0
    losses: dict[str, float] = field(default_factory=dict)


def pick_device(name: str) -> torch.device:
    """``auto`` is the first CUDA device where there is one, else the CPU.

    Raises:
        MethodError: If a CUDA device is asked for by name and is not there.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise MethodError(f"{name} asked for, but PyTorch sees no GPU", where="device", remedy="use auto or cpu")
    return torch.device(name)


def adapt(
    network: Model,
    source: Model,
    data: SiteData,
    experiment: Experiment,
    segment: Segment,
    *,
    labels: Index | None = None,
    on_step: Callable[[int, int], None] | None = None,
) -> AdaptReport:
    """Adapts ``network`` in place.

    Args:
        network: The target as it stands at the start of the segment.
        source: The frozen source, with as many members.
        data: The site's unlabelled TR images and TI pairs.
        experiment: Method, data preparation, seed and device.
        segment: Site, round and length.
        labels: True TR labels, ``(N,)``; refused by every method but ``oracle``.
        on_step: Called with (steps done, steps of the segment).

    Raises:
        MethodError: If method, data and labels do not fit (nothing has been changed then), or if losses or
            weights are no longer finite (``network`` is spoilt then).
    """
    method = build_method(experiment.method, experiment.federation.bn_policy)
    _check_data(method, data, labels)
    device = pick_device(experiment.device)
    for each in (network, source):
        each.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]  # as documented
    method.configure(network, source)
    if isinstance(method, Oracle) and labels is not None:
        method.labels = torch.as_tensor(labels, device=device)
    method.check()

    prep = Preprocessing.of(experiment.data)
    tr = Loader(data.tr, prep, device)
    if segment.fresh:
        method.start(tr)
    if not method.trains:
        return AdaptReport()
    seeds = (experiment.seed, segment.site, segment.round)
    ti = _TiFeatures(data.ti, method, experiment, segment, device) if needs_pairs(experiment.method) else None
    return _train(method, tr, ti, experiment, segment, np.random.default_rng(derive_seed(*seeds, "draws")), on_step)


def adapt_alone(
    network: Model,
    source: Model,
    data: SiteData,
    experiment: Experiment,
    site: str,
    *,
    labels: Index | None = None,
    on_round: Callable[[int, int], None] | None = None,
    on_step: Callable[[int, int], None] | None = None,
) -> AdaptReport:
    """A whole job at one place without a server: the rounds of a federation, with nothing exchanged.

    Arguments as for :func:`adapt`; ``on_round`` is called with (rounds done, rounds), ``on_step`` with steps
    of the whole job.
    """
    rounds, steps = rounds_of(experiment), experiment.federation.steps
    total = AdaptReport()
    for round_ in range(1, rounds + 1):

        def step_over(done: int, _of: int, before: int = (round_ - 1) * steps) -> None:
            if on_step is not None:
                on_step(before + done, rounds * steps)

        segment = Segment(site, round_, steps, rounds, fresh=round_ == 1)
        report = adapt(network, source, data, experiment, segment, labels=labels, on_step=step_over)
        total = AdaptReport(total.steps + report.steps, total.visits + report.visits, report.losses)
        if on_round is not None:
            on_round(round_, rounds)
    return total


def _check_data(method: Method, data: SiteData, labels: Index | None) -> None:
    if method.oracle != (labels is not None):
        found = "none" if labels is None else "some"
        raise MethodError(
            f"target labels are for the oracle alone, found {found}",
            where=method.name,
            remedy="pass labels to method oracle only",
        )
    if len(data.tr) < 2:
        raise MethodError(
            f"needs at least 2 task-relevant images for BatchNorm, found {len(data.tr)}",
            where=method.name,
            remedy="add images, or leave this site out",
        )
    if labels is not None and len(labels) != len(data.tr):
        raise MethodError(f"{len(data.tr)} task-relevant images but {len(labels)} labels", where=method.name)
    if needs_pairs(method.cfg) and len(data.ti) < 2:
        raise MethodError(
            f"needs at least 2 task-irrelevant pairs for BatchNorm, found {len(data.ti)}",
            where=method.name,
            remedy="add paired images of other classes, or use a method without them (shot, adabn)",
        )


def _train(
    method: Method,
    tr: Loader,
    ti: _TiFeatures | None,
    experiment: Experiment,
    segment: Segment,
    rng: np.random.Generator,
    on_step: Callable[[int, int], None] | None,
) -> AdaptReport:
    cfg = experiment.method
    optimiser = NesterovSgd(
        method.target,
        lr=cfg.lr,
        backbone_lr_scale=cfg.backbone_lr_scale,
        momentum=cfg.momentum,
        weight_decay=cfg.weight_decay,
    )
    batch = min(cfg.batch, len(tr))
    refresh_every = cfg.refresh_every or -(-len(tr) // batch)
    first = (segment.round - 1) * segment.steps
    tr_stream = IndexStream(len(tr), rng)
    sums: dict[str, Tensor] = defaultdict(lambda: torch.zeros((), device=tr.device))
    report = AdaptReport()
    for step in range(segment.steps):
        if step % refresh_every == 0:
            method.refresh(tr)
        index = tr_stream.take(batch)
        x = tr.batch(index, tr.draw(rng, batch))
        pairs = ti.take(cfg.batch) if ti is not None else None
        optimiser.zero_grad()
        terms = method.step(TrBatch(x, torch.as_tensor(index, device=tr.device)), pairs)
        torch.stack(list(terms.values())).sum().backward()
        optimiser.step(lr_factor(first + step, segment.rounds * segment.steps))
        for name, value in terms.items():
            sums[name] += value.detach()
        report.steps += 1
        report.visits += batch + (len(pairs.x) if pairs is not None else 0)
        if on_step is not None:
            on_step(step + 1, segment.steps)
    report.losses = {name: float(total) / report.steps for name, total in sums.items()}
    finite = all(bool(t.isfinite().all()) for t in method.target.state_dict().values() if t.is_floating_point())
    if not finite or not all(np.isfinite(v) for v in report.losses.values()):
        raise MethodError(
            f"losses or weights are no longer finite (mean losses {report.losses})",
            where=method.name,
            remedy="lower method.lr",
        )
    return report


class _TiFeatures:
    """TI pairs with source features computed once, for a few fixed joint views of each pair.

    Cached features of a view are right only if the target half is shown in that very view, so each pair
    has ``ti_views`` draws for the whole job, the first of them un-augmented. Entry ``i`` is view
    ``i // n`` of pair ``i % n``.
    """

    def __init__(self, pairs: Pairs, method: Method, experiment: Experiment, segment: Segment, device: torch.device):
        prep = Preprocessing.of(experiment.data)
        self._target = Loader(pairs.target, prep, device)
        self._count = len(pairs)
        rng = np.random.default_rng(derive_seed(experiment.seed, segment.site, "ti views"))
        views = [identity(self._count)]
        views += [self._target.draw(rng, self._count) for _ in range(experiment.method.ti_views - 1)]
        self._draws = join(views)
        rgb = Loader(pairs.rgb, prep, device)
        total = self._count * len(views)
        with torch.no_grad():
            chunks = np.array_split(np.arange(total), -(-total // 256))
            features = [method.source.features(rgb.batch(i % self._count, self._draws.take(i))) for i in chunks]
        self._features = torch.cat(features)
        order = derive_seed(experiment.seed, segment.site, segment.round, "ti order")
        self._stream = IndexStream(total, np.random.default_rng(order))

    def take(self, count: int) -> TiBatch:
        """The next ``count`` views of pairs with the source features of their RGB halves."""
        index = self._stream.take(min(count, self._count))
        x = self._target.batch(index % self._count, self._draws.take(index))
        return TiBatch(x, self._features[torch.as_tensor(index, device=self._features.device)])
