"""Empirical audit of the DP step's code: a run on toy data, with canaries that somebody tries to find in the release.

The accountant's epsilon is an upper bound **if** the code does what the accountant assumes. This is the check from the
other side: real :class:`DpStep`, a rendered network and random pairs, canaries, and a lower bound on epsilon
from how many of them are found (:mod:`socket_core.privacy.one_run`). A lower bound above the claim refutes the code.

It says something of the code on this run, and nothing of a site's pairs or of a job that has run. A low bound proves
nothing: the attack may be weak, and whole families of faults lie outside its sight (docs/privacy.md). A bound at its
ceiling means "leaks" and not "epsilon is this".
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from socket_core.config import Experiment, parse_experiment
from socket_core.config_privacy import Scope
from socket_core.data.types import Images, Pairs
from socket_core.errors import PrivacyError
from socket_core.methods import build_method
from socket_core.methods.base import Method
from socket_core.models import build_network
from socket_core.privacy.accounting import ADJACENCY, Epsilon, epsilon
from socket_core.privacy.canaries import Canaries, CanaryStep, throw
from socket_core.privacy.one_run import ceiling, correct_guesses, epsilon_lower_bound
from socket_core.privacy.plan import event_of
from socket_core.privacy.records import Records
from socket_core.privacy.scope import scope_parameters
from socket_core.seeds import derive_seed

PAIRS = 40
"""Random pairs beside the canaries."""

SIDE = 16
SHOWS = "shows that this code leaks, or shows nothing: it tests the code on a toy run, not a site's pairs"


@dataclass(frozen=True)
class CodePathAudit:
    """What one audited run showed.

    Attributes:
        claimed: Epsilon of all steps by both accountants, with delta; a record is a pair or a canary.
        sigma: Noise multiplier that was asked for.
        sample_rate: Of each record in each step.
        steps: DP steps.
        canaries: Coins thrown.
        guesses: Coins guessed: those of the highest scores, as "in".
        correct: Right ones.
        confidence: Of the lower bound.
        lower_bound: On epsilon at the claimed delta.
        ceiling: The lower bound if all guesses had been right.
        seconds: Wall time.
    """

    claimed: Epsilon
    sigma: float
    sample_rate: float
    steps: int
    canaries: int
    guesses: int
    correct: int
    confidence: float
    lower_bound: float
    ceiling: float
    seconds: float

    @property
    def leaks(self) -> bool:
        """Whether the claim is refuted."""
        return self.lower_bound > self.claimed.claim

    @property
    def verdict(self) -> str:
        """In words."""
        if not self.leaks:
            return "claim not refuted; a low bound is no proof of privacy"
        if self.correct == self.guesses:
            return "LEAKS: claim refuted, at the ceiling: how much it leaks cannot be told from this"
        return "LEAKS: claim refuted"

    def as_dict(self) -> dict[str, Any]:
        """Plain values, with unit, adjacency and verdict."""
        claimed = {"rdp": self.claimed.rdp, "pld": self.claimed.pld, "claim": self.claimed.claim}
        out = asdict(self) | {"claimed": claimed | {"by": self.claimed.by, "delta": self.claimed.delta}}
        return out | {"adjacency": ADJACENCY, "leaks": self.leaks, "verdict": self.verdict, "about": SHOWS}


def audit_code_path(
    *,
    epsilon_claimed: float = 2.0,
    delta: float = 1e-5,
    steps: int = 60,
    canaries: int = 1500,
    guesses: int = 70,
    sample_rate: float = 0.15,
    scope: Scope = "bottleneck",
    confidence: float = 0.95,
    seed: int = 0,
    kind: type[CanaryStep] = CanaryStep,
    on_step: Callable[[int, int], None] | None = None,
) -> CodePathAudit:
    """Runs the DP step with canaries, guesses their coins from what it released, and bounds epsilon from below.

    Args:
        epsilon_claimed: The noise is the product's own for this epsilon over all steps.
        delta: Of the claim.
        steps: DP steps; even, so that canaries turn their sign equally often.
        canaries: Coins; the set then holds 40 pairs and about half of so many canaries.
        guesses: How many of the highest scores are called "in": fixed here, before the run.
        sample_rate: Of each record in each step.
        scope: What the steps train; canaries sit in its largest tensor.
        confidence: Of the lower bound.
        seed: Of coins, toy pairs and weights. Noise and draws come from the operating system, as in a job.
        kind: The step to audit: the right one, or one with a fault (:mod:`socket_core.privacy.faults`).
        on_step: Called after each step with the number of steps done and of all.

    Raises:
        PrivacyError: If even right guesses alone could not refute the claim, steps are odd, canaries do not fit into
            the scope, or what was released is not finite.
    """
    start, highest = time.monotonic(), ceiling(canaries, guesses, delta, confidence)
    if highest <= epsilon_claimed or steps % 2:
        raise PrivacyError(
            f"expected an even number of steps, and a claim below the largest bound that {guesses} guesses can give, "
            f"found {steps} steps, a claim of {epsilon_claimed:g} and a bound of {highest:.2f}",
            where="audit",
            remedy="use more guesses, or a smaller claim",
        )
    experiment = _experiment(epsilon_claimed, delta, steps, sample_rate, scope, seed)
    method, records, thrown = _toy(experiment, canaries, scope)
    step = kind(method, records, experiment, steps, thrown)
    for done in range(1, steps + 1):
        step.step(1.0)
        if on_step is not None:
            on_step(done, steps)
    correct, event = correct_guesses(step.scores, thrown.coins, top=guesses), event_of(experiment, steps)
    return CodePathAudit(
        claimed=epsilon([event], delta),
        sigma=event.sigma,
        sample_rate=sample_rate,
        steps=steps,
        canaries=canaries,
        guesses=guesses,
        correct=correct,
        confidence=confidence,
        lower_bound=epsilon_lower_bound(canaries, guesses, correct, delta, confidence),
        ceiling=highest,
        seconds=time.monotonic() - start,
    )


def _experiment(claim: float, delta: float, steps: int, rate: float, scope: Scope, seed: int) -> Experiment:
    """SOCKET with DP at one site, in one round."""
    raw = {
        "name": "code-path-audit",
        "seed": seed,
        "device": "cpu",
        "data": {"size": SIDE, "pad": 2},
        "network": {"backbone": "tiny", "bottleneck_dim": 16},
        "method": {"name": "socket", "trust": "always", "ti_loss": "per_sample", "ti_views": 1},
        "federation": {"sites": 1, "quorum": 1, "rounds": 1, "steps": steps},
        "privacy": {
            "epsilon": claim,
            "delta": delta,
            "sample_rate": rate,
            "expected_batch": 100,
            "scope": scope,
            "lr": 0.1,
            "chunk": 64,
        },
    }
    return parse_experiment(raw, where="audit")


def _toy(experiment: Experiment, count: int, scope: Scope) -> tuple[Method, Records, Canaries]:
    """A target network away from its source, random pairs, and canaries for the scope."""
    rng = np.random.default_rng(derive_seed(experiment.seed, "code path audit"))
    network = experiment.network
    source, target = (
        build_network(network.backbone, network.bottleneck_dim, 3, seed=s) for s in rng.integers(2**31, size=2)
    )
    method = build_method(experiment.method, experiment.federation.bn_policy)
    method.configure(target, source)
    pairs = Pairs(
        Images(rng.integers(256, size=(PAIRS, SIDE, SIDE, 3), dtype=np.uint8), 255.0),
        Images(rng.integers(10_000, size=(PAIRS, SIDE, SIDE), dtype=np.uint16), 10_000.0),
    )
    records = Records(pairs, method.source, experiment, torch.device("cpu"))
    return method, records, throw(scope_parameters(target, scope), count, rng)
