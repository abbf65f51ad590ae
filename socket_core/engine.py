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

from socket_core import drift
from socket_core.config import Experiment
from socket_core.config_privacy import aligns_pairs
from socket_core.data.loader import IndexStream, Loader, Preprocessing, upload
from socket_core.data.types import Index, SiteData
from socket_core.errors import MethodError
from socket_core.evaluation import device_of
from socket_core.exchange import parameters_of, travelling_specs
from socket_core.methods import METHODS, Method, build_method
from socket_core.methods.base import TrBatch
from socket_core.methods.oracle import Oracle
from socket_core.models import Model, half_precision
from socket_core.optimiser import lr_factor
from socket_core.privacy.dp_step import DpStep, prepare
from socket_core.privacy.ledger import Budget
from socket_core.reading import Reading, read
from socket_core.seeds import derive_seed
from socket_core.stages import Stage, bridge_rounds, rounds_of
from socket_core.ti_pairs import TiPairs
from socket_core.translators import Bridge, build_bridge
from socket_core.validators import VALIDATORS


@dataclass(frozen=True)
class Segment:
    """Which part of a job runs now.

    Attributes:
        site: Stable name; with the run's seed and the round it determines every draw.
        round: 1-based, within the stage.
        steps: Optimiser steps in this round.
        rounds: Rounds in the whole stage, for the learning-rate schedule.
        fresh: Whether BatchNorm still holds the source's statistics, so that the method's start is due.
        stage: ``bridge`` trains the translator, ``adapt`` the target network.
        federated: Whether ``network`` is the round's global model, which terms against drift hold on to.
    """

    site: str
    round: int
    steps: int
    rounds: int
    fresh: bool
    stage: Stage = "adapt"
    federated: bool = False


@dataclass
class AdaptReport:
    """What a segment did. Stays at the site: loss values are not sent anywhere.

    Attributes:
        steps: Optimiser steps taken.
        visits: Images seen by gradient steps (a TI pair counts once).
        losses: Mean weighted loss terms over the segment, by name.
        kept: Of a whole job, the round whose network was kept: the last, or the one that the validator chose.
    """

    steps: int = 0
    visits: int = 0
    losses: dict[str, float] = field(default_factory=dict)
    kept: int = 0


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
    bridge: Bridge | None = None,
    labels: Index | None = None,
    budget: Budget | None = None,
    seen: Reading | None = None,
    on_step: Callable[[int, int], None] | None = None,
) -> AdaptReport:
    """Adapts ``network`` in place, or in stage ``bridge`` trains ``bridge``.

    Args:
        network: The target as it stands at the start of the segment.
        source: The frozen source, with as many members.
        data: The site's unlabelled TR images and TI pairs.
        experiment: Method, data preparation, seed and device.
        segment: Site, round and length.
        bridge: The translator, for methods with one; see :func:`make_bridge`.
        labels: True TR labels, ``(N,)``; refused by every method but ``oracle``.
        budget: What is charged before TI pairs are touched; needed if the experiment asks for DP on them.
        seen: What ``network`` says of ``data.tr`` as it stands, if the caller has asked: the first refresh needs it.
        on_step: Called with (steps done, steps of the segment).

    Raises:
        MethodError: If method, data and labels do not fit (nothing has been changed then), or if losses or
            weights are no longer finite (``network`` is spoilt then).
        PrivacyError: If DP is asked for and cannot be had, or the budget is used up; nothing has been changed then.
    """
    method = build_method(experiment.method, experiment.federation.bn_policy, bridge=segment.stage == "bridge")
    _check_data(method, data, labels)
    device = pick_device(experiment.device)
    for each in (network, source, *([bridge] if bridge is not None else [])):
        each.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]  # as documented
    method.configure(network, source, bridge)
    if isinstance(method, Oracle) and labels is not None:
        method.labels = torch.as_tensor(labels, device=device)
    method.check()

    pairs, private = method.needs_pairs(method.cfg), None
    if pairs and experiment.privacy is not None:
        pairs, method.pairs_apart = False, True
        if segment.stage == "bridge" or aligns_pairs(method.cfg):
            private = prepare(method, data.ti, experiment, segment.steps, budget, device)
    tr = Loader(data.tr, Preprocessing.of(experiment.data), device)
    if segment.fresh:
        method.start(tr)
        seen = None  # statistics may have moved
    if not method.trains:
        return AdaptReport()
    ti = TiPairs(data.ti, method, experiment, segment.site, device) if pairs else None
    method.probe = ti.probe if ti is not None else None
    method.begin(tr)
    if segment.federated and segment.stage == "adapt" and drift.asked_for(experiment.federation):
        seen = seen or read(network, tr)
        method.anchor = _anchor(network, experiment, seen)
    with half_precision(network, experiment.precision == "bfloat16"):
        return _train(method, tr, private or ti, experiment, segment, seen, on_step)


def make_bridge(experiment: Experiment, source: Model) -> Bridge | None:
    """The translator as every site starts with it; None for methods without one."""
    if not METHODS[experiment.method.name].translates:
        return None
    cfg, width = experiment.method.translator, sum(member.width for member in source.members)
    return build_bridge(cfg.kind, cfg.width, width, seed=derive_seed(experiment.seed, "translator weights"))


def _anchor(network: Model, experiment: Experiment, seen: Reading) -> drift.Anchor:
    """The network as it stands, for terms that hold the site's steps near it."""
    parameters = parameters_of(network)
    travel = [key for key, _ in travelling_specs(network, experiment.federation.bn_policy)]
    start = {key: parameters[key].detach().clone() for key in travel}
    return drift.Anchor(experiment.federation, parameters, start, seen.logits.softmax(1))


def adapt_alone(
    network: Model,
    source: Model,
    data: SiteData,
    experiment: Experiment,
    site: str,
    *,
    labels: Index | None = None,
    budget: Budget | None = None,
    on_round: Callable[[int, int], None] | None = None,
    on_step: Callable[[int, int], None] | None = None,
) -> AdaptReport:
    """A whole job at one place without a server: the rounds of a federation, with nothing exchanged.

    Arguments as for :func:`adapt`; ``on_round`` is called with (rounds done, rounds), ``on_step`` with steps
    of the whole job.
    """
    rounds, steps, bridging = rounds_of(experiment), experiment.federation.steps, bridge_rounds(experiment)
    bridge, total, best = make_bridge(experiment, source), AdaptReport(), _Best(network, experiment, data)
    seen: Reading | None = None
    for round_ in range(1, rounds + 1):

        def step_over(done: int, _of: int, before: int = (round_ - 1) * steps) -> None:
            if on_step is not None:
                on_step(before + done, rounds * steps)

        if round_ <= bridging:
            segment = Segment(site, round_, steps, bridging, fresh=False, stage="bridge")
        else:
            segment = Segment(site, round_ - bridging, steps, rounds - bridging, fresh=round_ == bridging + 1)
        report = adapt(
            network,
            source,
            data,
            experiment,
            segment,
            bridge=bridge,
            labels=labels,
            budget=budget,
            seen=seen,
            on_step=step_over,
        )
        total = AdaptReport(total.steps + report.steps, total.visits + report.visits, report.losses, kept=round_)
        if segment.stage == "adapt":
            seen = best.look(round_)
        if on_round is not None:
            on_round(round_, rounds)
        if best.is_over(round_):
            break
    total.kept = best.restore() or total.kept
    return total


class _Best:
    """The round that a validator likes best, and the network as it was after it."""

    def __init__(self, network: Model, experiment: Experiment, data: SiteData) -> None:
        self._network, self._patience = network, experiment.federation.patience
        self._score_of = VALIDATORS.get(experiment.method.validator)
        self._images, self._prep = data.tr, Preprocessing.of(experiment.data)
        self._round, self._score, self._state = 0, -float("inf"), dict[str, Tensor]()

    def look(self, round_: int) -> Reading | None:
        """Scores the network as it is now; what it says of the images, which the next round needs, too."""
        if self._score_of is None:
            return None
        seen = read(self._network, Loader(self._images, self._prep, device_of(self._network)))
        score = self._score_of(seen.logits.cpu())
        if score > self._score:
            self._round, self._score = round_, score
            self._state = {key: value.clone() for key, value in self._network.state_dict().items()}
        return seen

    def is_over(self, round_: int) -> bool:
        """Whether patience has run out."""
        return self._patience > 0 and self._round > 0 and round_ - self._round >= self._patience

    def restore(self) -> int:
        """Puts the best state back; its round, or 0 if rounds are not scored."""
        if self._round:
            self._network.load_state_dict(self._state)
        return self._round


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
    if method.needs_pairs(method.cfg) and len(data.ti) < 2:
        raise MethodError(
            f"needs at least 2 task-irrelevant pairs for BatchNorm, found {len(data.ti)}",
            where=method.name,
            remedy="add paired images of other classes, or use a method without them (shot, adabn)",
        )


def _train(
    method: Method,
    tr: Loader,
    ti: TiPairs | DpStep | None,
    experiment: Experiment,
    segment: Segment,
    seen: Reading | None,
    on_step: Callable[[int, int], None] | None,
) -> AdaptReport:
    cfg, optimiser = experiment.method, method.optimiser()
    # Stage 2 draws as the one stage of other methods does.
    stage = () if segment.stage == "adapt" else (segment.stage,)
    rng = np.random.default_rng(derive_seed(experiment.seed, segment.site, segment.round, *stage, "draws"))
    if isinstance(ti, TiPairs):
        ti.shuffle(derive_seed(experiment.seed, segment.site, segment.round, *stage, "ti order"))
    batch = min(cfg.batch, len(tr))
    refresh_every = cfg.refresh_every or -(-len(tr) // batch)
    first = (segment.round - 1) * segment.steps
    tr_stream = IndexStream(len(tr), rng)
    sums: dict[str, Tensor] = defaultdict(lambda: torch.zeros((), device=tr.device))
    report = AdaptReport()
    for step in range(segment.steps):
        if step % refresh_every == 0:
            method.refresh(tr, seen if step == 0 else None)
        index = tr_stream.take(batch)
        x = tr.batch(index, tr.draw(rng, batch))
        pairs = ti.take(cfg.batch) if isinstance(ti, TiPairs) else None
        factor = lr_factor(first + step, segment.rounds * segment.steps)
        optimiser.zero_grad()
        terms = method.step(TrBatch(x, upload(index, tr.device)), pairs)
        if terms:  # under DP the TI term has a step of its own, and may be the only one
            torch.stack(list(terms.values())).sum().backward()
            optimiser.step(factor)
        paired = len(pairs.x) if pairs is not None else 0
        if isinstance(ti, DpStep):
            paired = ti.after_step(factor)
        for name, value in terms.items():
            sums[name] += value.detach()
        report.steps += 1
        report.visits += batch + paired
        if on_step is not None:
            on_step(step + 1, segment.steps)
    report.losses = {name: float(total) / report.steps for name, total in sums.items()}
    finite = all(bool(t.isfinite().all()) for t in method.learner().state_dict().values() if t.is_floating_point())
    if not finite or not all(np.isfinite(v) for v in report.losses.values()):
        raise MethodError(
            f"losses or weights are no longer finite (mean losses {report.losses})",
            where=method.name,
            remedy="lower method.lr" if segment.stage == "adapt" else "lower method.translator.lr",
        )
    return report
