"""Adaptation at one site without any server: a federation of one, with nobody to send to."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from client import policy
from client.images import raw_size
from client.releases import read_pinned
from client.site import open_deployed
from client.site_file import read_site_file
from socket_core import engine
from socket_core.combined import combine
from socket_core.config import Experiment
from socket_core.data.loader import Preprocessing
from socket_core.data.types import Images
from socket_core.evaluation import collapse_warning, spread_of
from socket_core.export.card import Preparation, card_of, write_adapted
from socket_core.release_fit import check_fits
from socket_core.stages import rounds_of


def adapt_alone(
    site_file: Path,
    experiment: Experiment,
    release_folders: Sequence[Path],
    out: Path,
    on_step: Callable[[int, int], None],
) -> dict[str, Any]:
    """Adapts one release or more on the site's images; writes the adapted model's state, and how to use it.

    Args:
        site_file: ``site.yaml``; its policy applies here too.
        experiment: Method and length: all rounds are run.
        release_folders: One for each source, each checked against the keys that the site pins.
        out: safetensors file, written whole or not at all.
        on_step: Called with (steps done, steps in all).

    Returns:
        Steps, images seen, the last round's mean losses, and how many classes are predicted, with a warning where
        these are suspiciously few. All of it stays at the site.
    """
    site = open_deployed(site_file)
    policy.check(site.policy, _keeping_its_translator(experiment), rounds_of(experiment))
    policy.check_sources(site.policy, len(release_folders))
    releases = [read_pinned(site, folder) for folder in release_folders]
    for release, folder in zip(releases, release_folders, strict=True):
        check_fits(release.info, experiment, where=str(folder))
    torch.set_num_threads(experiment.threads)
    network, source = combine(releases), combine(releases)
    holdings = site.load(experiment)
    data, budget = holdings.data, site.budget(experiment, holdings, f"alone-{experiment.name}-{secrets.token_hex(4)}")
    total = engine.adapt_alone(network, source, data, experiment, site.name, budget=budget, on_step=on_step)
    preparation = _preparation(site_file, experiment, data.tr)
    card = card_of([release.info for release in releases], experiment, preparation, site.name)
    write_adapted(out, network.state_dict(), card)
    classes = len(releases[0].info.classes)
    spread = spread_of(network, data.tr, Preprocessing.of(experiment.data), classes)
    return {
        "site": site.name,
        "steps": total.steps,
        "visits": total.visits,
        "kept_round": total.kept,
        "losses": total.losses,
        "classes_predicted": spread.classes_predicted,
        "prediction_entropy": spread.prediction_entropy,
        "warning": collapse_warning(spread, classes),
        "out": str(out),
    }


def _preparation(site_file: Path, experiment: Experiment, images: Images) -> Preparation:
    """From the site's raw images to what the network has seen of them."""
    file, prep = read_site_file(site_file), Preprocessing.of(experiment.data)
    return Preparation(
        modality=file.modality,
        bits=16 if images.pixels.dtype.itemsize == 2 else 8,
        rotated=file.rotated,
        raw=raw_size(file),
        size=experiment.data.size,
        full_scale=images.full_scale,
        mean=prep.mean,
        std=prep.std,
    )


def _keeping_its_translator(experiment: Experiment) -> Experiment:
    """The experiment as it runs here: a translator that a federation would share leaves nobody's site."""
    translator = experiment.method.translator.model_copy(update={"exchange": "local"})
    return experiment.model_copy(update={"method": experiment.method.model_copy(update={"translator": translator})})
