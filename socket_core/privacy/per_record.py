"""Clipped sums of per-record gradients: what a DP step needs of them, and rows that are there one by one.

A DP step asks two questions only: how long is each record's gradient, and what is their weighted sum. Whoever can
answer them need not hold ``B`` gradients of the size of the network (book-keeping: Bu et al., ICML 2023).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import torch
from torch import Tensor


class RecordGradients(Protocol):
    """The gradients of B records."""

    def squares(self) -> Tensor:
        """Squared norm of each record's gradient over all parameters, ``(B,)``."""

    def weighted_sum(self, weights: Tensor) -> dict[str, Tensor]:
        """``sum_i w_i g_i`` by name of parameter, for ``weights`` ``(B,)``; all gradients must be finite."""

    def rows(self) -> dict[str, Tensor]:
        """Each record's gradient, ``(B, *shape)`` by name of parameter."""


class Rows:
    """Gradients that are there one by one.

    Args:
        rows: ``(B, *shape)`` by name of parameter.
    """

    def __init__(self, rows: Mapping[str, Tensor]) -> None:
        self._rows = dict(rows)

    def squares(self) -> Tensor:
        """See :class:`RecordGradients`."""
        return torch.stack([g.flatten(1).square().sum(1) for g in self._rows.values()]).sum(0)

    def weighted_sum(self, weights: Tensor) -> dict[str, Tensor]:
        """See :class:`RecordGradients`."""
        return {name: torch.tensordot(weights, g, dims=1) for name, g in self._rows.items()}

    def rows(self) -> dict[str, Tensor]:
        """See :class:`RecordGradients`."""
        return self._rows


class Joined:
    """Several groups of records, one after the other.

    Args:
        parts: One or more, of the same parameters.
    """

    def __init__(self, parts: Sequence[RecordGradients]) -> None:
        self._parts = parts

    def squares(self) -> Tensor:
        """See :class:`RecordGradients`."""
        return torch.cat([part.squares() for part in self._parts])

    def weighted_sum(self, weights: Tensor) -> dict[str, Tensor]:
        """See :class:`RecordGradients`."""
        shares = weights.split([len(part.squares()) for part in self._parts])
        sums = [part.weighted_sum(share) for part, share in zip(self._parts, shares, strict=True)]
        return {name: torch.stack([each[name] for each in sums]).sum(0) for name in sums[0]}

    def rows(self) -> dict[str, Tensor]:
        """See :class:`RecordGradients`."""
        found = [part.rows() for part in self._parts]
        return {name: torch.cat([each[name] for each in found]) for name in found[0]}
