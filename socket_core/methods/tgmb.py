"""TGMB, stage 1 of TGMB + TGKT (Zhu, Chen, Wang, IEEE TIP 34, 2025): train a translator to source-like RGB.

``L = rec L_rec + domain L_D + im L_IM``: translated TI images are drawn to their RGB halves, translated TI and TR
images to each other in the frozen source's features, and the frozen source's predictions on translated TR images to
be sure and diverse. The form of L_D is ours, and so is ``features``: the distance of the source's features of a
translated TI image from those of its RGB half, since what the source makes of an image matters more than its pixels.
"""

from __future__ import annotations

import torch
from torch import Tensor

from socket_core.batchnorm import bn_mode
from socket_core.config import MethodConfig
from socket_core.errors import MethodError
from socket_core.losses import domain_confusion, feature_distance_per_sample, information_maximisation, reconstruction
from socket_core.methods.base import Method, Pool, Terms, TiBatch, TrBatch
from socket_core.models import Model
from socket_core.optimiser import Adam, Optimiser
from socket_core.reading import Reading
from socket_core.translators import Bridge


class Tgmb(Method):
    """Trains the bridge; the target network and the source stay as they are."""

    name = "tgmb"
    trains = True
    translates = True
    several_sources = True
    private_pairs = True
    wants_rgb = True

    @classmethod
    def needs_pairs(cls, cfg: MethodConfig) -> bool:
        """Always: L_rec is what ties the translator to RGB."""
        return True

    def configure(self, target: Model, source: Model, bridge: Bridge | None = None) -> None:
        """The bridge learns, nothing else does."""
        super().configure(target, source, bridge)
        if bridge is None:
            raise MethodError("no translator was given", where=self.name, remedy="pass bridge to adapt()")
        target.requires_grad_(False)
        self.bridge = bridge.requires_grad_(True).eval()

    def check(self) -> None:
        """Also refuses a job without L_rec, in which nothing would look like RGB."""
        super().check()
        if self.cfg.translator.weights.rec == 0 and self.cfg.translator.weights.features == 0:
            raise MethodError(
                "nothing ties the translator to RGB",
                where="method.translator.weights",
                remedy="give rec or features a positive weight, or use kind: replicate",
            )

    def learner(self) -> Bridge:
        """The bridge."""
        return self.bridge

    def optimiser(self) -> Optimiser:
        """Adam: the bridge starts from nothing."""
        return Adam(self.bridge.parameters(), lr=self.cfg.translator.lr)

    def start(self, pool: Pool) -> None:
        """Nothing: BatchNorm of the target network is stage 2's business."""

    @torch.no_grad()
    def refresh(self, pool: Pool, seen: Reading | None = None) -> None:
        """New trust in the source's predictions on translated images."""
        with bn_mode(self.bridge, "batch"):
            self.trust = self.trust_in(self.agreement_of(lambda x: self.source(self.bridge(x))))

    def step(self, tr: TrBatch, ti: TiBatch | None) -> Terms:
        """Translates the TI batch, and the TR batch where a term needs it."""
        if not self.pairs_apart and (ti is None or ti.rgb is None):
            raise MethodError("the translator needs TI pairs", where=self.name, remedy="add paired images")
        weights = self.cfg.translator.weights
        terms: Terms = {}
        with bn_mode(self.bridge, "update"):
            if ti is not None:
                translated = self.bridge(ti.x)
                ti_features = self.source.features(translated) if weights.features > 0 or weights.domain > 0 else None
                terms |= self._pair_terms(translated, ti_features, ti.source_features, ti.rgb)
            if weights.domain > 0 or weights.im > 0:
                tr_features: Tensor = self.source.features(self.bridge(tr.x))
        if weights.domain > 0 and ti is not None and ti_features is not None:
            scores = [self.bridge.domain_scores(f) for f in (ti_features, tr_features)]
            terms["domain"] = weights.domain * domain_confusion(*scores)
        if weights.im > 0:
            terms["im"] = self.trust * weights.im * information_maximisation(self.source.logits(tr_features))
        return terms

    def pair_loss(self, out: Tensor, source_features: Tensor, rgb: Tensor | None = None) -> Tensor:
        """L_rec and the feature term of one pair, averaged over its views; L_D compares sets and has no such form."""
        features = self.source.features(out) if self.cfg.translator.weights.features > 0 else None
        return torch.stack(list(self._pair_terms(out, features, source_features, rgb).values())).sum()

    def _pair_terms(
        self, translated: Tensor, features: Tensor | None, source_features: Tensor, rgb: Tensor | None
    ) -> Terms:
        """The terms in which each pair stands for itself."""
        weights, terms = self.cfg.translator.weights, Terms()
        if weights.rec > 0 and rgb is not None:
            terms["rec"] = weights.rec * reconstruction(translated, rgb)
        if weights.features > 0 and features is not None:
            terms["features"] = weights.features * feature_distance_per_sample(source_features, features)
        return terms
