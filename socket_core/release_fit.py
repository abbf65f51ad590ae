"""Whether a release and an experiment belong together.

Target images must be prepared as the source's were: another size or normalisation would silently be another
experiment (the published code trains with one normalisation and adapts with another).
"""

from __future__ import annotations

from typing import Any

from socket_core.config import Experiment
from socket_core.errors import ReleaseError
from socket_core.release import ReleaseInfo


def check_fits(info: ReleaseInfo, experiment: Experiment, *, where: str) -> None:
    """Refuses a release whose preprocessing is not the experiment's.

    Raises:
        ReleaseError: Naming the key.
    """
    data = experiment.data
    _compare(
        {
            "data.size": (info.image_size, data.size),
            "data.mean": (info.mean, data.mean),
            "data.std": (info.std, data.std),
        },
        where,
        "use the values that the release was trained with",
    )


def check_trained_as(info: ReleaseInfo, experiment: Experiment, *, where: str) -> None:
    """Refuses a release that this experiment would have trained with other settings.

    Raises:
        ReleaseError: Naming the key where the manifest tells it.
    """
    remedy = "train anew into another folder, or remove this one"
    _compare(
        _network(info, experiment)
        | {"source.epochs": (info.epochs, experiment.source.epochs), "seed": (info.seed, experiment.seed)},
        where,
        remedy,
    )
    if info.settings_digest != experiment.source_digest():
        raise ReleaseError("made with other settings in data, network or source", where=where, remedy=remedy)


def check_network(info: ReleaseInfo, experiment: Experiment, *, where: str) -> None:
    """Refuses a release of another network than the experiment counts on; how it was trained is its owner's business.

    Raises:
        ReleaseError: Naming the key.
    """
    _compare(_network(info, experiment), where, "correct the experiment, or ask the owner for the release meant")


def _network(info: ReleaseInfo, experiment: Experiment) -> dict[str, tuple[Any, Any]]:
    return {
        "network.backbone": (info.backbone, experiment.network.backbone),
        "network.bottleneck_dim": (info.bottleneck_dim, experiment.network.bottleneck_dim),
    }


def _compare(values: dict[str, tuple[Any, Any]], where: str, remedy: str) -> None:
    for key, (found, asked) in values.items():
        if found != asked:
            raise ReleaseError(f"made with {key} {found}, the experiment says {asked}", where=where, remedy=remedy)
