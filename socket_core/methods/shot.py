"""SHOT: information maximisation and centroid pseudo-labels (Liang, Hu, Feng, ICML 2020)."""

from __future__ import annotations

import torch
from torch import Tensor

from socket_core.batchnorm import bn_mode
from socket_core.errors import MethodError
from socket_core.losses import information_maximisation, pseudo_label_loss
from socket_core.methods.base import Method, Pool, Terms, TiBatch, TrBatch
from socket_core.pseudo_labels import SHOT_RECIPE, SOCKET_RECIPE, CentroidRecipe, mixed_centroid_labels

RECIPES: dict[str, CentroidRecipe] = {"shot": SHOT_RECIPE, "socket": SOCKET_RECIPE}


class Shot(Method):
    """``L = im L_IM + pl L_pl`` on unlabelled target images."""

    name = "shot"
    several_sources = True
    trains = True
    recipe = "shot"

    def check(self) -> None:
        """Also refuses a job in which every term is off."""
        super().check()
        if not any(weight > 0 for weight in self.active_weights().values()):
            raise MethodError(
                "every loss term has weight 0", where="method.weights", remedy="give one a positive weight"
            )

    def active_weights(self) -> dict[str, float]:
        """The weights that this method uses."""
        return {"pl": self.cfg.weights.pl, "im": self.cfg.weights.im}

    @torch.no_grad()
    def refresh(self, pool: Pool) -> None:
        """New pseudo-labels for the whole target set, in eval mode."""
        if self.cfg.weights.pl == 0:
            return
        features, probabilities = [], []
        with bn_mode(self.target, "frozen"):
            for x in pool.chunks():
                f = self.target.features(x)
                features.append(f)
                probabilities.append(self.target.logits(f).softmax(1))
        recipe = RECIPES[self.cfg.pseudo_labels or self.recipe]
        spaces, shares = self.target.split(torch.cat(features)), self.target.weights
        self.labels = mixed_centroid_labels(spaces, shares, torch.cat(probabilities), recipe)

    def step(self, tr: TrBatch, ti: TiBatch | None) -> Terms:
        """One forward pass over the TR batch."""
        with bn_mode(self.target, self.tr_mode()):
            logits = self.target(tr.x)
        return self.tr_terms(logits, tr.index)

    def tr_terms(self, logits: Tensor, index: Tensor) -> Terms:
        """The terms on TR logits ``(N, K)`` of the images at ``index``."""
        weights, terms = self.cfg.weights, {}
        if weights.im > 0:
            terms["im"] = weights.im * information_maximisation(logits)
        if weights.pl > 0:
            terms["pl"] = weights.pl * pseudo_label_loss(logits, self.labels[index])
        return terms
