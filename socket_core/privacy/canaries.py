"""Dirac canaries in the DP step: records whose trace in the release is as plain as clipping allows.

A canary is a record like any other to :class:`DpStep`: its own Poisson draw picks it, at the same rate as a pair. Its
gradient is its own coordinate of one tensor, of a norm far above the clip norm, and enters **before** clipping. So
sampling, clipping, summing, noise and division are those of a real step. A gradient of the adversary's own choice is
the strongest attack that the guarantee has to stand (Nasr et al., "Adversary Instantiation", IEEE S&P 2021).

The sign of the gradient turns with each step, and the score turns with it. To right code this makes no difference;
noise that is drawn once and used again cancels. Scores come from what each step changed in the weights: the accountant
counts every step as released, and where a round has one step, it is.

For audits of the code on a toy data set. **No canary ever enters a job**: it would spoil the model.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from socket_core.config import Experiment
from socket_core.data.types import Index
from socket_core.errors import PrivacyError
from socket_core.methods.base import Method
from socket_core.privacy.dp_step import DpStep
from socket_core.privacy.per_record import Joined, RecordGradients, Rows
from socket_core.privacy.plan import privacy_of
from socket_core.privacy.records import Records
from socket_core.privacy.scope import scope_parameters

HUGE = 1000.0
"""Norm of a canary's gradient over the clip norm."""


@dataclass(frozen=True)
class Canaries:
    """m canaries and their coins.

    Attributes:
        tensor: Name of the parameter in which all of them sit.
        coordinates: ``(m,)`` positions in the flattened tensor, one for each canary.
        coins: ``(m,)`` bool, true where a canary is in the data.
    """

    tensor: str
    coordinates: Index
    coins: NDArray[np.bool_]

    @property
    def inside(self) -> Index:
        """Coordinates of those that are in the data."""
        return self.coordinates[self.coins]

    def values(self, parameters: dict[str, Tensor]) -> NDArray[np.float64]:
        """``(m,)``: the parameter at each canary's coordinate."""
        values: NDArray[np.float64] = parameters[self.tensor].detach().flatten().double().cpu().numpy()
        return values[self.coordinates]

    def gradients(self, parameters: dict[str, Tensor], places: Index, size: float) -> dict[str, Tensor]:
        """Per-record gradients ``(B, *shape)`` of those canaries in the data: ``size`` at their own coordinate."""
        rows = {name: p.new_zeros(len(places), *p.shape) for name, p in parameters.items()}
        rows[self.tensor].flatten(1)[np.arange(len(places)), self.inside[places]] = size
        return rows


def throw(parameters: dict[str, Tensor], count: int, rng: np.random.Generator) -> Canaries:
    """``count`` canaries at random places of the largest tensor, each with a fair coin.

    Raises:
        PrivacyError: If the tensor has fewer entries.
    """
    name = max(parameters, key=lambda key: parameters[key].numel())
    if count > (size := parameters[name].numel()):
        raise PrivacyError(
            f"{count} canaries, and {name} has {size} entries", where="audit", remedy="use fewer, or a larger scope"
        )
    return Canaries(name, rng.permutation(size)[:count].astype(np.int64), rng.random(count) < 0.5)


class CanaryStep(DpStep):
    """DP steps over the pairs and over those canaries that are in the data.

    Args:
        method: As for :class:`DpStep`.
        records: The pairs. Their count grows by that of the canaries: of no use to anyone else after.
        experiment: As for :class:`DpStep`.
        charged: As for :class:`DpStep`.
        canaries: The canaries.

    Attributes:
        scores: ``(m,)``, high where what was released looks as if the canary were in the data.
    """

    def __init__(
        self, method: Method, records: Records, experiment: Experiment, charged: int, canaries: Canaries
    ) -> None:
        super().__init__(method, records, experiment, charged)
        cfg = privacy_of(experiment)
        self._canaries, self._canary_size = canaries, HUGE * cfg.clip
        self._first_canary = records.count
        self._everyone = records.count = records.count + len(canaries.inside)
        self._trained = scope_parameters(method.target, cfg.scope)
        self.scores = np.zeros(len(canaries.coins))

    def step(self, factor: float) -> None:
        """One step; adds to the scores what it changed."""
        before = self._canaries.values(self._trained)
        super().step(factor)
        self.scores += np.sign(self._canary_size) * (before - self._canaries.values(self._trained))
        self._canary_size = -self._canary_size

    @torch.no_grad()
    def recorded(self, index: Index) -> RecordGradients:
        """Those of the pairs, then those of the canaries; ``index`` ascends."""
        pairs, places = index[index < self._first_canary], index[index >= self._first_canary] - self._first_canary
        rows = Rows(self._canaries.gradients(self._trained, places, self._canary_size))
        return Joined([super().recorded(pairs), rows]) if len(pairs) else rows
