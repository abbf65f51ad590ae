"""How much noise an experiment's steps need, and what a round of them is in the ledger."""

from __future__ import annotations

from socket_core.config import Experiment, PrivacyConfig
from socket_core.config_privacy import aligns_pairs
from socket_core.errors import PrivacyError
from socket_core.privacy.accounting import Event, calibrate
from socket_core.stages import bridge_rounds, rounds_of


def privacy_of(experiment: Experiment) -> PrivacyConfig:
    """The ``privacy`` section, which must be there."""
    if experiment.privacy is None:
        raise PrivacyError("no privacy section", where="privacy", remedy="give epsilon, sample_rate, expected_batch")
    return experiment.privacy


def ti_steps(experiment: Experiment, steps: int) -> int:
    """How many of so many optimiser steps in a row have a TI step: the last of each ``privacy.every``."""
    return steps // privacy_of(experiment).every


def planned_steps(experiment: Experiment, spare_rounds: int | None = None) -> int:
    """TI steps of the whole job at one site, with those of rounds that may be done again.

    Args:
        experiment: With a ``privacy`` section.
        spare_rounds: In place of the experiment's.
    """
    bridging = bridge_rounds(experiment)
    aligning = rounds_of(experiment) - bridging if aligns_pairs(experiment.method) else 0
    spare = privacy_of(experiment).spare_rounds if spare_rounds is None else spare_rounds
    return (bridging + aligning + spare) * ti_steps(experiment, experiment.federation.steps)


def sigma_of(experiment: Experiment) -> float:
    """The noise multiplier: as given, or the least that keeps the whole job within ``privacy.epsilon``.

    It depends on the experiment alone, so every site and every restarted process finds the same.
    """
    cfg = privacy_of(experiment)
    if cfg.sigma is not None or cfg.epsilon is None:
        return cfg.sigma or 0.0  # 0 is refused by Event
    return calibrate(cfg.epsilon, cfg.delta, cfg.sample_rate, planned_steps(experiment))


def event_of(experiment: Experiment, steps: int) -> Event:
    """What so many TI steps are in the ledger."""
    return Event(sigma_of(experiment), privacy_of(experiment).sample_rate, steps)
