"""SHOT: information maximisation and centroid pseudo-labels (Liang, Hu, Feng, ICML 2020)."""

from __future__ import annotations

import torch
from torch import Tensor

from socket_core.batchnorm import bn_mode
from socket_core.config import TransferWeights, Weights
from socket_core.errors import MethodError
from socket_core.losses import information_maximisation, pseudo_label_loss
from socket_core.methods.base import Method, Pool, Terms, TiBatch, TrBatch
from socket_core.pseudo_labels import SHOT_RECIPE, SOCKET_RECIPE, CentroidRecipe, mixed_centroid_labels
from socket_core.reading import Reading, read

RECIPES: dict[str, CentroidRecipe] = {"shot": SHOT_RECIPE, "socket": SOCKET_RECIPE}


class Shot(Method):
    """``L = im L_IM + pl L_pl`` on unlabelled target images."""

    name = "shot"
    several_sources = True
    trains = True
    recipe = "shot"
    prior: Tensor | None = None
    agrees: float | None = None
    """Of the target network with the source, at the last refresh; None where trust is not asked for."""

    def check(self) -> None:
        """Also refuses a job in which every term is off."""
        super().check()
        if not any(weight > 0 for weight in self.active_weights().values()):
            raise MethodError(
                "every loss term has weight 0", where="method.weights", remedy="give one a positive weight"
            )

    @property
    def weights(self) -> Weights | TransferWeights:
        """The section of the configuration that this method reads."""
        return self.cfg.weights

    def active_weights(self) -> dict[str, float]:
        """The weights that this method uses."""
        return {"pl": self.weights.pl, "im": self.weights.im}

    @torch.no_grad()
    def refresh(self, pool: Pool, seen: Reading | None = None) -> None:
        """New pseudo-labels and a new prior from the whole target set, and new trust, all in eval mode."""
        with bn_mode(self.target, "frozen"):
            self.agrees = self.agreement_of(self.target)
        self.trust = self.trust_in(self.agrees)
        if self.weights.pl == 0 and self.cfg.prior == "uniform":
            return
        seen = seen or read(self.target, pool)
        probabilities = seen.logits.softmax(1)
        spaces, shares = self.target.split(seen.features), self.target.weights
        recipe = RECIPES[self.cfg.pseudo_labels or self.recipe]
        self.labels = mixed_centroid_labels(spaces, shares, probabilities, recipe)
        if self.cfg.prior == "estimated":
            # Half of it is uniform: the network's own mean alone would exert no pull, whatever has collapsed.
            self.prior = 0.5 * probabilities.mean(0) + 0.5 / probabilities.shape[1]

    def step(self, tr: TrBatch, ti: TiBatch | None) -> Terms:
        """One forward pass over the TR batch."""
        with bn_mode(self.target, self.tr_mode()):
            logits = self.target(tr.x)
        return self.tr_terms(logits, tr.index)

    def tr_terms(self, logits: Tensor, index: Tensor) -> Terms:
        """The terms on TR logits ``(N, K)`` of the images at ``index``."""
        weights, terms = self.weights, {}
        if weights.im > 0:
            terms["im"] = self.trust * weights.im * information_maximisation(logits, self.prior)
        if weights.pl > 0:
            terms["pl"] = self.trust * weights.pl * pseudo_label_loss(logits, self.labels[index])
        if self.anchor is not None:
            terms |= self.anchor.terms(logits, index)
        return terms
