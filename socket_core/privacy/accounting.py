"""What subsampled Gaussian steps cost: epsilon by two libraries, and the noise that a whole job needs.

One **event** is a number of steps, each of which takes every record with probability ``sample_rate``, sums their
clipped gradients and adds normal noise of standard deviation ``sigma`` times the clip norm. What a record is, the
:class:`Unit` says: one TI pair, or one whole site. Adjacency: two sets that differ by adding or removing one record.
Epsilons of different units are shown side by side and never added.

Renyi accounting is Opacus's (Mironov, Talwar, Zhang, arXiv:1908.10530), accounting by privacy loss distributions is
dp-accounting's (Koskela et al., AISTATS 2020). Both are upper bounds, of independent codes; the larger one is the
safe side of a claim. Events are added up before epsilon is taken: epsilons of rounds must never be added, nor shown
one by one as if they were the whole (ten rounds that show 3.79 each have spent about 8.9).
"""

from __future__ import annotations

import math
import warnings
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from socket_core.errors import PrivacyError

UNIT = "record-level: one task-irrelevant (RGB, target) pair"
ADJACENCY = "add or remove one pair"
NOT_COVERED = (
    "the site's task-relevant images, which train without DP",
    "a scene or person shown in k pairs: k times epsilon, with a larger delta",
    "pairs that a site replaces by others: replace-one adjacency costs more",
    "how long a round took, and who can read the site's disk",
    "floating-point attacks on the noise, and its generator, which is seeded by the system but not cryptographic",
    "whoever deletes the ledger together with its key and its head",
)
"""What epsilon of TI pairs says nothing about."""

SITE_NOT_COVERED = (
    "who takes part: that a site answers, refuses or is late is visible",
    "a site's name and modality, and how long a round took",
    "with noise at the server: what the owner sees, which is each site's change without noise",
    "with noise at the sites: sites that leave their share out, which nobody can check",
    "scores and confusion counts that simulated sites send",
    "floating-point attacks on the noise, and its generator, which is seeded by the system but not cryptographic",
)
"""What epsilon of a whole site says nothing about."""

ORDERS = [1 + x / 10 for x in range(1, 100)] + [float(x) for x in [*range(11, 64), 80, 128, 256, 512, 1024]]
SMALLEST_SIGMA = 0.3
"""Below this accountants become slow and inexact, and epsilon is in the hundreds: no protection worth the name."""

LARGEST_SIGMA = 1000.0
"""The end of the search in :func:`calibrate`."""

GRID = 1e-4
"""Width of a cell of privacy loss in PLD accounting; losses are rounded up."""


@dataclass(frozen=True)
class Unit:
    """What one epsilon is about, and what messages about its budget name.

    Attributes:
        text: What is protected.
        adjacency: How two data sets differ that cannot be told apart.
        short: ``text`` for a message.
        cap_key: The site's limit in ``site.yaml``.
        job_key: The run's own in the experiment.
        remedy: What to do once it is used up.
    """

    text: str
    adjacency: str
    short: str
    cap_key: str
    job_key: str
    remedy: str

    def statement(self, delta: float) -> str:
        """What has to stand beside every epsilon."""
        return f"{self.text}; {self.adjacency}; delta {delta:g}"


RECORD = Unit(
    UNIT,
    ADJACENCY,
    "record-level on TI pairs",
    "policy.privacy.epsilon",
    "privacy.epsilon",
    "fewer steps, a larger sigma or other pairs; see socket-site audit",
)
SITE = Unit(
    "whole site: all its images, task-relevant and task-irrelevant",
    "add or remove one site",
    "whole site",
    "policy.privacy.site_epsilon",
    "site_privacy",
    "fewer rounds, a larger sigma, or site_privacy.spare_rounds for rounds that are done again",
)


@dataclass(frozen=True)
class Event:
    """``steps`` subsampled Gaussian steps.

    Attributes:
        sigma: Noise multiplier: standard deviation of the noise over the clip norm.
        sample_rate: Probability of each record to be in a step's batch, in (0, 1].
        steps: At least 1.
    """

    sigma: float
    sample_rate: float
    steps: int

    def __post_init__(self) -> None:
        if not (SMALLEST_SIGMA <= self.sigma < math.inf and 0 < self.sample_rate <= 1 and self.steps >= 1):
            raise PrivacyError(
                f"expected sigma of at least {SMALLEST_SIGMA}, a sample rate in (0, 1] and at least one step, found "
                f"{self.sigma}, {self.sample_rate} and {self.steps}",
                where="privacy",
                remedy="correct privacy.sigma, privacy.sample_rate or federation.steps",
            )


@dataclass(frozen=True)
class Epsilon:
    """Epsilon at one delta, by both accountants.

    Attributes:
        rdp: By Renyi accounting.
        pld: By privacy loss distributions; usually the smaller one.
        delta: Of both.
        unit: What they are about.
    """

    rdp: float
    pld: float
    delta: float
    unit: Unit = RECORD

    @property
    def claim(self) -> float:
        """The larger one: the safe side."""
        return max(self.rdp, self.pld)

    @property
    def by(self) -> str:
        """Which accountant the claim is of."""
        return "RDP" if self.rdp >= self.pld else "PLD"

    def __str__(self) -> str:
        """Epsilon never stands alone: with delta, unit and adjacency."""
        both = f"epsilon {self.claim:.3f} by {self.by} (RDP {self.rdp:.3f}, PLD {self.pld:.3f})"
        return f"{both} at delta {self.delta:g}; {self.unit.text}; {self.unit.adjacency}"


def epsilon(events: Iterable[Event], delta: float, unit: Unit = RECORD) -> Epsilon:
    """Epsilon of all events together, by both accountants; all events are of the one ``unit``.

    Half a second each time, unless it was asked before.
    """
    return _epsilon(tuple(_merged(events)), delta, unit)


@lru_cache(maxsize=256)
def _epsilon(events: tuple[Event, ...], delta: float, unit: Unit) -> Epsilon:
    return Epsilon(rdp_epsilon(events, delta), pld_epsilon(events, delta), delta, unit)


def rdp_epsilon(events: Iterable[Event], delta: float) -> float:
    """Epsilon of all events together, by Opacus's Renyi accounting; 0 for none."""
    from opacus.accountants.analysis.rdp import compute_rdp, get_privacy_spent  # 2 to 5 s: only where DP is on

    _check_delta(delta)
    merged = _merged(events)
    if not merged:
        return 0.0
    spent = sum(compute_rdp(q=e.sample_rate, noise_multiplier=e.sigma, steps=e.steps, orders=ORDERS) for e in merged)
    with warnings.catch_warnings():
        # At the end of the list of orders epsilon is only a looser upper bound.
        warnings.filterwarnings("ignore", message="Optimal order is the", category=UserWarning)
        found, _ = get_privacy_spent(orders=ORDERS, rdp=spent, delta=delta)
    return _checked(float(found), "RDP")


def pld_epsilon(events: Iterable[Event], delta: float) -> float:
    """Epsilon of all events together, by dp-accounting's privacy loss distributions; 0 for none."""
    from dp_accounting import GaussianDpEvent, PoissonSampledDpEvent
    from dp_accounting.pld import PLDAccountant

    _check_delta(delta)
    merged = _merged(events)
    if not merged:
        return 0.0
    accountant = PLDAccountant(value_discretization_interval=GRID)
    for e in merged:
        accountant.compose(PoissonSampledDpEvent(e.sample_rate, GaussianDpEvent(e.sigma)), e.steps)
    return _checked(float(accountant.get_epsilon(delta)), "PLD")


@lru_cache(maxsize=64)
def calibrate(target: float, delta: float, sample_rate: float, steps: int, unit: Unit = RECORD) -> float:
    """The least sigma, in thousandths, with which ``steps`` steps in all stay within ``target`` by both accountants.

    Args:
        target: Epsilon of the whole job, not of a round.
        delta: Of the whole job.
        sample_rate: Of each step.
        steps: Of the whole job: rounds times steps a round.
        unit: What it is about; an error names its key.

    Raises:
        PrivacyError: If no sigma up to 1000 is enough.
    """

    def enough(thousandths: int) -> bool:
        return rdp_epsilon([Event(thousandths / 1000, sample_rate, steps)], delta) <= target

    low, high = round(1000 * SMALLEST_SIGMA), round(1000 * LARGEST_SIGMA)
    if not enough(high):
        raise _out_of_reach(target, delta, steps, unit)
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle + 1, high)
    # Losses are rounded up to the grid: for tiny targets PLD may ask for more noise than RDP.
    while pld_epsilon([Event(low / 1000, sample_rate, steps)], delta) > target:
        low += -(-low // 10)
        if low > 1000 * LARGEST_SIGMA:
            raise _out_of_reach(target, delta, steps, unit)
    return low / 1000


def _out_of_reach(target: float, delta: float, steps: int, unit: Unit) -> PrivacyError:
    return PrivacyError(
        f"epsilon {target:g} at delta {delta:g} over {steps} steps cannot be reached with sigma up to "
        f"{LARGEST_SIGMA:g}",
        where=unit.job_key,
        remedy="allow a larger epsilon, or take fewer steps",
    )


def _merged(events: Iterable[Event]) -> Sequence[Event]:
    """One event for each (sigma, sample rate): both accountants take time for each."""
    steps: Counter[tuple[float, float]] = Counter()
    for e in events:
        steps[e.sigma, e.sample_rate] += e.steps
    return [Event(sigma, rate, count) for (sigma, rate), count in sorted(steps.items())]


def _check_delta(delta: float) -> None:
    if not 0 < delta < 1:
        raise PrivacyError(f"expected delta in (0, 1), found {delta}", where="privacy.delta", remedy="use 1e-5")


def _checked(found: float, by: str) -> float:
    """Accountants have been seen to answer negative numbers and NaN: neither may pass for a small epsilon."""
    if math.isnan(found):
        raise PrivacyError(
            f"{by} accounting has no answer", where="privacy", remedy="use a larger sigma or a smaller sample rate"
        )
    return max(0.0, found)
