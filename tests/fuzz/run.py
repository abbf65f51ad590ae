"""Runs targets on damaged input and keeps what should not have come out."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from tests.fuzz.mutate import mutate
from tests.fuzz.targets import Target

SLOW_SECONDS = 20.0
"""An input that takes longer counts as a finding: whoever sends it could stop a site."""


@dataclass
class Outcome:
    """What one target did.

    Attributes:
        inputs: How many it was given.
        accepted: How many it took: damage may leave input sound.
        refused: Documented errors by class.
        findings: Anything else, with the input.
        slowest: Seconds of the slowest input.
    """

    inputs: int = 0
    accepted: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    findings: list[tuple[str, bytes]] = field(default_factory=list)
    slowest: float = 0.0


def try_target(target: Target, inputs: int, seed: int) -> Outcome:
    """Gives a target its sound samples, which it must take, and then damaged input."""
    rng, out = random.Random(f"{seed} {target.name}"), Outcome()
    for sample in target.samples:
        target.run(sample)
    for _ in range(inputs):
        data = mutate(rng, target.samples)
        out.inputs += 1
        started = time.monotonic()
        try:
            target.run(data)
            out.accepted += 1
        except target.allowed as error:
            out.refused[type(error).__name__] += 1
        except Exception as error:
            out.findings.append((f"{type(error).__name__}: {str(error)[:200]}", data))
        seconds = time.monotonic() - started
        out.slowest = max(out.slowest, seconds)
        if seconds > SLOW_SECONDS:
            out.findings.append((f"took {seconds:.0f} s", data))
    return out


def shares(targets: Sequence[Target], inputs: int) -> dict[str, int]:
    """How many inputs each target gets, at least one, of at least ``inputs`` in all."""
    whole = sum(target.share for target in targets)
    return {target.name: int(inputs * target.share / whole) + 1 for target in targets}
