"""From screened updates to the next global state: pure functions, reproducible to the bit.

Updates are summed in site-name order in float64, so that the order of replies does not matter.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch

from server.state import PooledBatchNorm, ServerState
from socket_core.batchnorm import Moments, pool_moments
from socket_core.exchange import Flat
from socket_core.privacy.site_level import Values, clip_change
from socket_core.stages import Stage


@dataclass(frozen=True)
class SiteUpdate:
    """One site's screened answer to a round.

    Attributes:
        site: Stable name.
        examples: Task-relevant images that the site says it has; 1 with protection of whole sites.
        delta: Flat change of the travelling parameters.
        batchnorm: Flat running statistics, with ``bn_policy: pooled`` only.
    """

    site: str
    examples: int
    delta: Flat
    batchnorm: PooledBatchNorm | None = None


def weights_of(updates: Sequence[SiteUpdate], weighting: Literal["examples", "equal"]) -> list[float]:
    """Weights that sum to 1, by examples (FedAvg, McMahan et al., 2017) or equal."""
    counts = [float(u.examples) if weighting == "examples" else 1.0 for u in updates]
    total = sum(counts)
    return [c / total for c in counts]


def fedavg(deltas: Sequence[Flat], weights: Sequence[float]) -> Flat:
    """``sum_i w_i delta_i`` in the order given, accumulated in float64."""
    total = np.zeros(deltas[0].shape, dtype=np.float64)
    for delta, weight in zip(deltas, weights, strict=True):
        total += weight * delta.astype(np.float64)
    return total.astype(np.float32)


@dataclass(frozen=True)
class Blur:
    """How a round's sum is made private for whole sites; drawn anew for each round.

    Attributes:
        divisor: What the sum is divided by, however many sites answered: a constant of the run.
        clip: Largest norm of a site's change in the sum; None where updates carry their sites' noise, which clipping
            would take away again.
        noise: What the owner adds to the sum, of a change's length; None where the sites did.
    """

    divisor: int
    clip: float | None = None
    noise: Values | None = None


def private_mean(deltas: Sequence[Flat], blur: Blur) -> Flat:
    """``(sum_i clip(delta_i) + noise) / divisor``: each update counts by itself, and no more than ``clip``.

    Raises:
        PrivacyError: If a value is not finite; screening lets none through.
    """
    total = np.zeros(deltas[0].shape, dtype=np.float64)
    for delta in deltas:
        total += delta if blur.clip is None else clip_change(delta, blur.clip)
    if blur.noise is not None:
        total += blur.noise
    return (total / blur.divisor).astype(np.float32)


def pool_batchnorm(
    updates: Sequence[SiteUpdate], weighting: Literal["examples", "equal"] = "examples"
) -> PooledBatchNorm | None:
    """Running statistics as if the sites' images were one set; None unless every update has them."""
    parts = [(u.examples if weighting == "examples" else 1, u.batchnorm) for u in updates if u.batchnorm is not None]
    if not parts or len(parts) != len(updates):
        return None
    moments = [Moments(n, torch.from_numpy(bn.mean), torch.from_numpy(bn.var)) for n, bn in parts]
    pooled = pool_moments(moments)
    return PooledBatchNorm(pooled.mean.numpy(), pooled.var.numpy())


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
    """
    ordered = sorted(updates, key=lambda u: u.site)
    deltas = [u.delta for u in ordered]
    delta = fedavg(deltas, weights_of(ordered, weighting)) if blur is None else private_mean(deltas, blur)
    if stage == "bridge":
        if state.bridge is None:
            raise ValueError("a round of stage bridge needs a shared translator in the state")
        return replace(state, round=state.round + 1, bridge=state.bridge + delta)
    pooled = pool_batchnorm(ordered, weighting) if blur is None else None
    return replace(state, round=state.round + 1, parameters=state.parameters + delta, batchnorm=pooled)
