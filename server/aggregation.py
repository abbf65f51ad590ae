"""From screened updates to the next global state: pure functions, reproducible to the bit.

Updates are summed in site-name order in float64, so that the order of replies does not matter. They are read a stretch
at a time: memory does not grow with the number of sites (docs/adr/0020).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch

from server.state import PooledBatchNorm, ServerState
from socket_core.batchnorm import Moments, pool_moments
from socket_core.exchange import Flat
from socket_core.packing import Change, as_it_is, stretches
from socket_core.privacy.site_level import Values, clip_factor
from socket_core.stages import Stage


@dataclass(frozen=True)
class Statistics:
    """A site's running means and variances, flat."""

    mean: Change
    var: Change


@dataclass(frozen=True)
class SiteUpdate:
    """One site's screened answer to a round.

    Attributes:
        site: Stable name.
        examples: Task-relevant images that the site says it has; 1 with protection of whole sites.
        delta: Flat change of the travelling parameters.
        norm: Its L2 norm.
        batchnorm: Flat running statistics, with ``bn_policy: pooled`` only.
    """

    site: str
    examples: int
    delta: Change
    norm: float
    batchnorm: Statistics | None = None


def weights_of(updates: Sequence[SiteUpdate], weighting: Literal["examples", "equal"]) -> list[float]:
    """Weights that sum to 1, by examples (FedAvg, McMahan et al., 2017) or equal."""
    counts = [float(u.examples) if weighting == "examples" else 1.0 for u in updates]
    total = sum(counts)
    return [c / total for c in counts]


def fedavg(deltas: Iterable[Flat], weights: Sequence[float]) -> Flat:
    """``sum_i w_i delta_i`` in the order given, accumulated in float64; one delta is held at a time."""
    return _weighted_sum(deltas, weights).astype(np.float32)


def _weighted_sum(deltas: Iterable[Flat], weights: Sequence[float]) -> Values:
    total: Values | None = None
    for delta, weight in zip(deltas, weights, strict=True):
        total = np.zeros(delta.shape, dtype=np.float64) if total is None else total
        total += weight * delta.astype(np.float64)
    if total is None:
        raise ValueError("a mean needs at least one update")
    return total


@dataclass(frozen=True)
class Blur:
    """How a round's sum is made private for whole sites; drawn anew for each round.

    Attributes:
        divisor: What the sum is divided by, however many sites answered: a constant of the run.
        clip: Largest norm of a site's change in the sum; None where updates carry their sites' noise, which clipping
            would take away again.
        noise: Draws what the owner adds to the next values of the sum, so many of them; None where the sites did.
    """

    divisor: int
    clip: float | None = None
    noise: Callable[[int], Values] | None = None

    def factor(self, norm: float) -> float:
        """What an update of that norm is multiplied by.

        Raises:
            PrivacyError: If the norm is not finite; screening lets none through.
        """
        return 1.0 if self.clip is None else clip_factor(norm, self.clip)


def private_mean(deltas: Iterable[Flat], factors: Sequence[float], blur: Blur) -> Flat:
    """``(sum_i factor_i delta_i + noise) / divisor``: each update counts by itself, and no more than ``clip``."""
    total = _weighted_sum(deltas, factors)
    if blur.noise is not None:
        total += blur.noise(len(total))
    return (total / blur.divisor).astype(np.float32)


def pool_batchnorm(
    updates: Sequence[SiteUpdate], weighting: Literal["examples", "equal"] = "examples"
) -> PooledBatchNorm | None:
    """Running statistics as if the sites' images were one set; None unless every update has them."""
    parts = [(u.examples if weighting == "examples" else 1, u.batchnorm) for u in updates if u.batchnorm is not None]
    if not parts or len(parts) != len(updates):
        return None
    length = len(parts[0][1].mean)
    mean, var = np.empty(length, np.float32), np.empty(length, np.float32)
    for start, stop in stretches(length, longest=CHANNELS):
        moments = [Moments(n, _tensor(bn.mean, start, stop), _tensor(bn.var, start, stop)) for n, bn in parts]
        pooled = pool_moments(moments)
        mean[start:stop], var[start:stop] = pooled.mean.numpy(), pooled.var.numpy()
    return PooledBatchNorm(mean, var)


CHANNELS = 1 << 12
"""Channels whose statistics are pooled at once: of all sites together, since the second pass needs the mean."""


def _tensor(change: Change, start: int, stop: int) -> torch.Tensor:
    return torch.from_numpy(change.floats(start, stop).copy())


def apply(
    state: ServerState,
    updates: Sequence[SiteUpdate],
    weighting: Literal["examples", "equal"],
    stage: Stage = "adapt",
    blur: Blur | None = None,
) -> ServerState:
    """The state after one more round.

    Args:
        state: The state before it.
        updates: Screened updates of that round, in any order, at least one.
        weighting: How sites count.
        stage: What the round trained: the target network or the translator.
        blur: With protection of whole sites, which ``weighting`` gives way to; there are no statistics then.

    Raises:
        PrivacyError: With ``blur``, if an update is not finite.
    """
    ordered = sorted(updates, key=lambda u: u.site)
    factors = weights_of(ordered, weighting) if blur is None else [blur.factor(u.norm) for u in ordered]

    def moved(before: Change) -> Flat:
        after = np.empty(len(before), np.float32)
        for start, stop in stretches(len(before)):
            parts = (u.delta.floats(start, stop) for u in ordered)
            mean = fedavg(parts, factors) if blur is None else private_mean(parts, factors, blur)
            np.add(before.floats(start, stop), mean, out=after[start:stop])
        return after

    if stage == "bridge":
        if state.bridge is None:
            raise ValueError("a round of stage bridge needs a shared translator in the state")
        return replace(state, round=state.round + 1, bridge=moved(as_it_is(state.bridge)))
    pooled = pool_batchnorm(ordered, weighting) if blur is None else None
    before = as_it_is(state.parameters) if state.unrounded is None else state.unrounded
    return replace(state, round=state.round + 1, parameters=moved(before), batchnorm=pooled, unrounded=None)
