"""The axis of privacy budgets of a grid: one method with record-level DP on its TI pairs at several epsilons.

Points of the axis, the one without DP among them, differ in nothing but the budget: all have the settings that DP on
pairs needs.
"""

from __future__ import annotations

from typing import Any

from socket_core.config import DataConfig, Experiment, parse_experiment
from socket_core.errors import ConfigError

DEFAULTS: dict[str, Any] = {"delta": 1e-5, "sample_rate": 1.0, "clip": 1.0, "lr": 0.2, "scope": "bottleneck"}
"""On the pairs of the embedded scenes, where an experiment has no ``privacy`` section: those of ``configs/privacy``."""
EVERY, CHUNK = 12, 128


def words(epsilon: float | None) -> str:
    """What a budget is called: ``epsilon 3``, or ``without DP``."""
    return "without DP" if epsilon is None else f"epsilon {number(epsilon)}"


def number(epsilon: float) -> str:
    """As short as it can be without being another number."""
    return repr(epsilon).removesuffix(".0")


def with_epsilon(experiment: Experiment, epsilon: float | None, *, private: bool) -> Experiment:
    """The experiment with this budget, under a name of its own if anything differs.

    Args:
        experiment: Its method learns from TI pairs.
        epsilon: Of the whole job at each site; None for no DP.
        private: Whether the method's settings have to be those that DP on pairs needs.

    Raises:
        ConfigError: If there is no ``privacy`` section to start from and none can be known, or one does not fit.
    """
    values = experiment.model_dump(mode="json")
    if private:
        values["method"] |= {"trust": "always", "ti_loss": "per_sample"}
        values["method"]["translator"]["weights"]["domain"] = 0.0
    own = values["privacy"]
    values["privacy"] = None
    if epsilon is not None:
        values["privacy"] = (own or _defaults(experiment)) | {"epsilon": epsilon, "sigma": None}
    where = f"--epsilon {'none' if epsilon is None else number(epsilon)}"
    found = parse_experiment(values, where=where)
    if found == experiment:
        return experiment
    return found.model_copy(update={"name": f"{experiment.name}-{words(epsilon).replace(' ', '-').lower()}"})


def for_sites(experiment: Experiment, sites: int) -> Experiment:
    """The experiment as it was, but for the pairs that a step expects: of so many sites each has as many fewer.

    ``federation.sites`` is still that of before. The number of pairs is not looked at: it is private.
    """
    privacy, before = experiment.privacy, experiment.federation.sites
    if privacy is None or sites == before:
        return experiment
    expected = max(1, round(privacy.expected_batch * before / sites))
    return experiment.model_copy(update={"privacy": privacy.model_copy(update={"expected_batch": expected})})


def pooled(experiment: Experiment) -> Experiment:
    """What the centralised arm runs: all pairs in one place, each as rarely as if its site were drawn too.

    So a step sees as many pairs as one of a site, and all steps together as many as those of all sites.
    """
    if experiment.privacy is None:
        return experiment
    rate = experiment.privacy.sample_rate / experiment.federation.sites
    return experiment.model_copy(update={"privacy": experiment.privacy.model_copy(update={"sample_rate": rate})})


def _defaults(experiment: Experiment) -> dict[str, Any]:
    data, federation = experiment.data, experiment.federation
    if not _pairs_are_counted(data):
        raise ConfigError(
            "no privacy section: how many pairs a step expects is a constant that nobody can guess for these data",
            where="--epsilon",
            remedy="add to the experiment privacy: {epsilon: 3, sample_rate: 1, expected_batch: PAIRS OF A SITE, "
            "every: 12, lr: 0.2}; docs/privacy.md says what they mean",
        )
    expected = max(1, data.scenes.ti // federation.sites)
    return DEFAULTS | {"expected_batch": expected, "every": min(EVERY, federation.steps), "chunk": CHUNK}


def _pairs_are_counted(data: DataConfig) -> bool:
    """Whether the experiment itself says how many TI pairs there are."""
    return data.kind == "scenes" and data.ti_from == "task" and data.ti_classes is None and data.ti_fraction == 1
