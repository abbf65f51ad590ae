"""TGKT, stage 2 of TGMB + TGKT (Zhu, Chen, Wang, IEEE TIP 34, 2025): transfer the source's knowledge.

``L = kl KL(p_S(T(x)) || p_T(x)) + ti L_f + pl L_self``: the frozen source on translated TR images teaches the target
network on the images as they are; features of TI pairs are aligned as in SOCKET; pseudo-labels come from the target
network itself. The translator T is frozen here and not needed afterwards. By default
SOCKET's terms on TR images, ``im`` and ``bn``, are on as well; the paper has neither.
"""

from __future__ import annotations

import torch
from torch import Tensor

from socket_core.batchnorm import bn_layers, bn_mode
from socket_core.config import MethodConfig, TransferWeights
from socket_core.errors import MethodError
from socket_core.losses import teacher_divergence
from socket_core.methods.base import Pool, Terms, reestimate_batchnorm
from socket_core.methods.socket import Socket
from socket_core.models import Model
from socket_core.reading import Reading
from socket_core.translators import Bridge


class Tgkt(Socket):
    """TGKT with a translator that stage 1 has trained."""

    name = "tgkt"
    translates = True
    several_sources = True
    private_pairs = True

    @classmethod
    def needs_pairs(cls, cfg: MethodConfig) -> bool:
        """For L_f, and for the translator."""
        return cfg.transfer.ti > 0 or cfg.translator.kind != "replicate"

    @property
    def weights(self) -> TransferWeights:
        """TGKT has weights of its own, since its terms mean something else beside a teacher."""
        return self.cfg.transfer

    def configure(self, target: Model, source: Model, bridge: Bridge | None = None) -> None:
        """The translator is frozen."""
        super().configure(target, source, bridge)
        if bridge is None:
            raise MethodError("no translator was given", where=self.name, remedy="pass bridge to adapt()")
        self.bridge = bridge.requires_grad_(False).eval()

    @torch.no_grad()
    def begin(self, pool: Pool) -> None:
        """The teacher's word on every TR image, once a round: teacher and translator are frozen.

        A translator with BatchNorm takes its statistics from the site's own images, as AdaBN does: statistics of
        an average of translators would belong to none of them.
        """
        super().begin(pool)
        if bn_layers(self.bridge):
            reestimate_batchnorm(self.bridge, pool)
        if self.weights.kl > 0:
            with bn_mode(self.bridge, "frozen"):
                self.teacher = torch.cat([self._teach(x).softmax(1) for x in pool.chunks()])
                self._teacher_agrees = self.agreement_of(self._teach)

    @torch.no_grad()
    def refresh(self, pool: Pool, seen: Reading | None = None) -> None:
        """Also asks whether the teacher still knows more than its pupil, by agreement on held-out pairs."""
        super().refresh(pool, seen)
        if self.weights.kl == 0:
            return
        self.teaches = self.trust_in(self._teacher_agrees)
        if self._teacher_agrees is not None and self.agrees is not None and self._teacher_agrees < self.agrees:
            self.teaches = 0.0

    def _teach(self, x: Tensor) -> Tensor:
        out: Tensor = self.source(self.bridge(x))
        return out

    def tr_terms(self, logits: Tensor, index: Tensor) -> Terms:
        """SOCKET's terms, and the divergence from the teacher."""
        terms = super().tr_terms(logits, index)
        if self.weights.kl > 0:
            divergence = teacher_divergence(self.teacher[index], logits)
            terms["kl"] = self.teaches * self.weights.kl * divergence
        return terms
