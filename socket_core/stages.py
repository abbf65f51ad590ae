"""Which rounds of a job belong to which stage.

TGMB + TGKT is two jobs in a row: ``bridge`` trains the translator, ``adapt`` the target network. All other methods
have one stage. Both stages together take ``federation.rounds``, so that methods are compared at equal rounds and
visits. A translator that stays at its site is trained inside the site's first round: nothing travels in between.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from socket_core.config import Experiment
from socket_core.methods import METHODS

Stage = Literal["bridge", "adapt"]


@dataclass(frozen=True)
class Place:
    """Where a round stands in its stage.

    Attributes:
        stage: The stage.
        round: 1-based, within the stage.
        rounds: Rounds of the stage.
    """

    stage: Stage
    round: int
    rounds: int


def bridge_rounds(experiment: Experiment) -> int:
    """Rounds of stage 1: none without a translator that learns."""
    method = experiment.method
    learns = METHODS[method.name].translates and method.translator.kind != "replicate"
    return method.translator.rounds if learns else 0


def rounds_of(experiment: Experiment) -> int:
    """Rounds of a job: one for a method that takes no gradient step, since more would change nothing."""
    return experiment.federation.rounds if METHODS[experiment.method.name].trains else 1


def federated_rounds(experiment: Experiment) -> int:
    """Rounds in which something travels."""
    return rounds_of(experiment) - (0 if shares_bridge(experiment) else bridge_rounds(experiment))


def shares_bridge(experiment: Experiment) -> bool:
    """Whether the translator is averaged over sites."""
    return bridge_rounds(experiment) > 0 and experiment.method.translator.exchange == "shared"


def place_of(experiment: Experiment, round_: int) -> Place:
    """Stage of round ``round_`` (1-based) of ``federated_rounds``."""
    first, total = bridge_rounds(experiment) if shares_bridge(experiment) else 0, federated_rounds(experiment)
    return Place("bridge", round_, first) if round_ <= first else Place("adapt", round_ - first, total - first)
