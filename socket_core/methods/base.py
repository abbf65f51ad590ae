"""The interface of every method: configure, check, then start, refresh and step (see tent and SHOT).

A method is one file. The engine owns data, optimiser and loop; a method says what may learn, whether the
set-up is legal, and what the loss of a step is.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Protocol

import torch
from torch import Tensor, nn

from socket_core.agreement import PairProbe, Predictor
from socket_core.batchnorm import (
    BnMode,
    Moments,
    bn_layers,
    bn_mode,
    pool_moments,
    running_moments,
    set_running_moments,
)
from socket_core.config import BnPolicy, MethodConfig
from socket_core.drift import Anchor
from socket_core.errors import MethodError
from socket_core.models import Model
from socket_core.optimiser import NesterovSgd, Optimiser
from socket_core.reading import Reading
from socket_core.translators import Bridge

Terms = dict[str, Tensor]
"""Weighted loss terms by name; the engine minimises their sum."""


@dataclass(frozen=True)
class TrBatch:
    """Task-relevant target images ``x`` ``(N, 3, H, W)`` and their positions in the site's set ``(N,)``."""

    x: Tensor
    index: Tensor


@dataclass(frozen=True)
class TiBatch:
    """Task-irrelevant pairs: target halves ``x`` and cached source features of the RGB halves ``(M, D)``.

    With several sources D is the sum of their widths: ``Model.split`` gives each its own. The RGB halves themselves,
    ``(M, 3, H, W)``, are there for methods that ask for them.
    """

    x: Tensor
    source_features: Tensor
    rgb: Tensor | None = None


class Pool(Protocol):
    """All TR images of a site, un-augmented, as batches on the device."""

    def chunks(self, size: int = 256, *, shuffled: bool = False) -> Iterator[Tensor]:
        """Batches of at most ``size`` images, in order or in one fixed shuffled order."""


class Method:
    """Base class; the defaults describe a method that changes nothing.

    Args:
        cfg: Hyper-parameters.
        bn_policy: What BatchNorm does in this job.
    """

    name: ClassVar[str]
    trains: ClassVar[bool] = False
    oracle: ClassVar[bool] = False
    translates: ClassVar[bool] = False
    wants_rgb: ClassVar[bool] = False
    several_sources: ClassVar[bool] = False
    private_pairs: ClassVar[bool] = False

    pairs_apart = False
    """Whether pairs have DP steps of their own, so that :meth:`step` gets none."""

    def __init__(self, cfg: MethodConfig, bn_policy: BnPolicy) -> None:
        self.cfg, self.bn_policy = cfg, bn_policy
        self.trust = 1.0
        self.probe: PairProbe | None = None
        self.anchor: Anchor | None = None

    @classmethod
    def needs_pairs(cls, cfg: MethodConfig) -> bool:
        """Whether a job with these settings looks at TI pairs at all; if not, it runs at a site that has none."""
        return False

    def configure(self, target: Model, source: Model, bridge: Bridge | None = None) -> None:
        """Says what may learn: F, B and the mixing of sources if the method trains; never C, never the source.

        Args:
            target: The network to adapt, or several with mixed logits.
            source: The frozen source, with as many members.
            bridge: The translator, for methods that translate.
        """
        self.target, self.source = target, source
        source.requires_grad_(False).eval()
        target.requires_grad_(self.trains)
        for member in target.members:
            member.classifier.requires_grad_(False)
        target.eval()

    def check(self) -> None:
        """Refuses illegal set-ups before the first step.

        Raises:
            MethodError: Naming what is wrong and the remedy.
        """
        count = len(self.target.members)
        self.check_sources(count)
        if count != len(self.source.members):
            raise MethodError(
                f"{count} target networks but {len(self.source.members)} source networks",
                where=self.name,
                remedy="start the target from a copy of the sources",
            )
        if any(p.requires_grad for m in self.target.members for p in m.classifier.parameters()):
            raise MethodError("the classifier must stay frozen", where=self.name, remedy="call configure() first")
        if any(p.requires_grad for p in self.source.parameters()):
            raise MethodError("the source network must stay frozen", where=self.name, remedy="call configure() first")
        if not all(bn_layers(member) for member in self.target.members):
            raise MethodError("the network has no BatchNorm layer", where=self.name, remedy="use a BatchNorm backbone")

    @classmethod
    def check_sources(cls, count: int) -> None:
        """Refuses more sources than the method knows what to do with; asked before any is trained, too.

        Raises:
            MethodError: If there are several and the method is for one.
        """
        # Of this very class: a subclass with terms of its own has to say anew that they know what to do with several.
        if count > 1 and not vars(cls).get("several_sources", False):
            raise MethodError(
                f"{cls.name} knows one source, found {count}",
                where="further_sources",
                remedy="leave the further sources out, or use a method for several, such as socket",
            )

    def start(self, pool: Pool) -> None:
        """Runs once, before the first step of the first round.

        A method that trains starts from AdaBN statistics where the job allows it: far from the target's
        statistics the first steps in batch mode and the pseudo-labels in eval mode would disagree.
        """
        if self.trains and self.cfg.start_from_adabn and self.bn_policy != "source":
            reestimate_batchnorm(self.target, pool)

    def begin(self, pool: Pool) -> None:
        """Runs at the beginning of each round, after :meth:`start`."""

    def refresh(self, pool: Pool, seen: Reading | None = None) -> None:
        """Runs before the first step of each round and then about once an epoch.

        Args:
            pool: The images.
            seen: What the target network, as it stands, says of them, where a pass over them has been made already.
        """

    def learner(self) -> nn.Module:
        """The module that the steps train."""
        return self.target

    def optimiser(self) -> Optimiser:
        """A new optimiser of what may learn."""
        cfg = self.cfg
        return NesterovSgd(
            self.target,
            lr=cfg.lr,
            backbone_lr_scale=cfg.backbone_lr_scale,
            momentum=cfg.momentum,
            weight_decay=cfg.weight_decay,
        )

    def agreement_of(self, predict: Predictor) -> float | None:
        """Of ``predict`` with the source on held-out TI pairs; None if nothing is asked."""
        return self.probe.agreement(predict) if self.probe is not None and self.cfg.trust == "agreement" else None

    def trust_in(self, agreement: float | None) -> float:
        """Weight of terms that trust predictions of this :meth:`agreement_of`."""
        return self.probe.trust(agreement) if self.probe is not None and agreement is not None else 1.0

    def step(self, tr: TrBatch, ti: TiBatch | None) -> Terms:
        """The weighted loss terms of one step."""
        raise MethodError("this method does not train", where=self.name, remedy="do not call step()")

    def pair_loss(self, out: Tensor, source_features: Tensor, rgb: Tensor | None = None) -> Tensor:
        """The weighted loss of a single TI pair, for DP; methods with ``private_pairs`` have one.

        Args:
            out: What the learner makes of the V views of the pair's target half: bottleneck features ``(V, D)``, or
                translated images ``(V, 3, H, W)``.
            source_features: The source's features of the same views of the RGB half ``(V, D)``.
            rgb: These views ``(V, 3, H, W)``, for methods that want them.
        """
        raise MethodError("this method has no loss of a single pair", where=self.name, remedy="leave privacy out")

    def tr_mode(self) -> BnMode:
        """BatchNorm in TR steps: by the batch and tracked, unless the job keeps the source's statistics."""
        return "frozen" if self.bn_policy == "source" else "update"

    def ti_mode(self) -> BnMode:
        """BatchNorm in TI steps: running statistics are never touched by TI images."""
        return "frozen" if self.bn_policy == "source" else "batch"


@torch.no_grad()
def reestimate_batchnorm(network: nn.Module, pool: Pool) -> None:
    """AdaBN: running statistics become the target's (Li et al., 2016).

    One pass in batch mode over the set in shuffled order (folders are sorted by class); per layer the moments
    of the batches are pooled, with the variance of their means. A batch of a single image is left out.
    """
    layers = bn_layers(network)
    momenta = {name: m.momentum for name, m in layers.items()}
    parts: dict[str, list[Moments]] = {name: [] for name in layers}
    try:
        for m in layers.values():
            m.reset_running_stats()
            m.momentum = 1.0  # running statistics are those of the last batch
        with bn_mode(network, "update"):
            for x in pool.chunks(shuffled=True):
                if len(x) > 1:
                    network(x)
                    for name, moments in running_moments(network, len(x)).items():
                        parts[name].append(moments)
    finally:
        for name, m in layers.items():
            m.momentum = momenta[name]
    set_running_moments(network, {name: pool_moments(seen) for name, seen in parts.items()})
