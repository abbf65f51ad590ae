"""Does the audit see anything? DP steps with a fault put in on purpose, each of which it has to find.

The faults live in subclasses of the audit's own step; the product's :class:`DpStep` has no switch for any of them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from socket_core.data.types import Index
from socket_core.errors import PrivacyError
from socket_core.privacy.canaries import CanaryStep
from socket_core.privacy.code_path import SHOWS, CodePathAudit, audit_code_path


class TenthOfTheNoise(CanaryStep):
    """Noise of a tenth of its standard deviation."""

    def noise(self, like: Tensor) -> Tensor:
        """Too little."""
        return 0.1 * super().noise(like)


class NoNoise(CanaryStep):
    """No noise."""

    def noise(self, like: Tensor) -> Tensor:
        """Zeros."""
        return torch.zeros_like(like)


class NoClipping(CanaryStep):
    """Gradients are summed as they are."""

    def clipped_sum(self, index: Index) -> dict[str, Tensor]:
        """Not clipped."""
        return {name: g.sum(0) for name, g in self.gradients(index).items()}


class AllRecords(CanaryStep):
    """Every record is in each step, whatever the sample rate."""

    def clipped_sum(self, index: Index) -> dict[str, Tensor]:
        """Of all."""
        return super().clipped_sum(np.arange(self._everyone))


class SameNoise(CanaryStep):
    """The noise of each step is that of the first one."""

    def noise(self, like: Tensor) -> Tensor:
        """From a generator that starts anew."""
        rng = np.random.default_rng(like.numel())
        return torch.from_numpy(rng.standard_normal(like.shape, dtype=np.float32)).to(like)


class SameNoiseAndDraw(SameNoise):
    """The generator starts anew before each step: its noise and its records are those of the first one."""

    _first: Index | None = None

    def clipped_sum(self, index: Index) -> dict[str, Tensor]:
        """Of the first step's records."""
        self._first = index if self._first is None else self._first
        return super().clipped_sum(self._first)


FAULTS: dict[str, type[CanaryStep]] = {
    "a tenth of the noise": TenthOfTheNoise,
    "no noise": NoNoise,
    "no clipping": NoClipping,
    "all records in each step": AllRecords,
    "same noise in each step": SameNoise,
    "same noise and records in each step": SameNoiseAndDraw,
}
RIGHT = "the code as it is"


@dataclass(frozen=True)
class SelfTest:
    """The audit of the code as it is, and of the code with each fault.

    Attributes:
        right: As it is.
        faulty: By fault.
    """

    right: CodePathAudit
    faulty: dict[str, CodePathAudit]

    @property
    def missed(self) -> list[str]:
        """Faults that the audit did not see."""
        return [name for name, found in self.faulty.items() if not found.leaks]

    def as_dict(self) -> dict[str, Any]:
        """Plain values."""
        faulty = {name: found.as_dict() for name, found in self.faulty.items()}
        return {"right": self.right.as_dict(), "faulty": faulty, "missed": self.missed, "about": SHOWS}


def self_test(on_step: Callable[[str, int, int], None] | None = None, **settings: Any) -> SelfTest:
    """Audits the code as it is, then with each fault.

    Args:
        on_step: Called after each step with the run's name, the number of its steps done and of all.
        settings: As for :func:`audit_code_path`, for all runs alike.
    """

    def run(name: str, kind: type[CanaryStep]) -> CodePathAudit:
        return audit_code_path(kind=kind, on_step=on_step and partial(on_step, name), **settings)

    return SelfTest(run(RIGHT, CanaryStep), {name: run(name, kind) for name, kind in FAULTS.items()})


def check(found: SelfTest) -> None:
    """Refuses code that leaks, and an audit that is blind.

    Raises:
        PrivacyError: Saying which.
    """
    if found.right.leaks:
        raise PrivacyError(
            f"{found.right.verdict}: epsilon is at least {found.right.lower_bound:.2f} at delta "
            f"{found.right.claimed.delta:g} where {found.right.claimed.claim:.2f} is claimed",
            where="audit",
            remedy="train on no pairs with this version and report it; right code gets here in at most 1 of 20 runs",
        )
    if found.missed:
        raise PrivacyError(
            f"the audit did not see: {', '.join(found.missed)}",
            where="audit",
            remedy="run it again; if it stays blind, its silence about the code as it is means nothing",
        )


def lines(found: SelfTest) -> list[str]:
    """What :func:`self_test` found, as a table with words."""
    right = found.right
    out = [
        f"claimed by all runs: {right.claimed}",
        f"{right.steps} steps, sample rate {right.sample_rate:g}, sigma {right.sigma:.3f}; {right.canaries} canaries, "
        f"{right.guesses} guesses; a bound of {right.ceiling:.2f} is the most they can show",
        "",
        f"{'run':36} {'right':>8} {'epsilon at least':>16} {'seconds':>8}",
    ]
    for name, run in {RIGHT: right, **found.faulty}.items():
        counts = f"{run.correct}/{run.guesses}"
        out.append(f"{name:36} {counts:>8} {run.lower_bound:16.2f} {run.seconds:8.1f}  {run.verdict}")
    return [*out, "", f"at {right.confidence:.0%} confidence; {SHOWS}"]
