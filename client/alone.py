"""Adaptation at one site without any server: a federation of one, with nobody to send to."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save

from client import policy
from client.site import open_deployed
from socket_core import engine
from socket_core.config import Experiment
from socket_core.files import write_atomically
from socket_core.release import read_release
from socket_core.release_fit import check_fits
from socket_core.stages import rounds_of


def adapt_alone(
    site_file: Path, experiment: Experiment, release_folder: Path, out: Path, on_step: Callable[[int, int], None]
) -> dict[str, Any]:
    """Adapts a release on the site's images and writes the network's state.

    Args:
        site_file: ``site.yaml``; its policy applies here too.
        experiment: Method and length: all rounds are run.
        release_folder: The release, checked against the key that the site pins.
        out: safetensors file, written whole or not at all.
        on_step: Called with (steps done, steps in all).

    Returns:
        Steps, images seen and the last round's mean losses. They stay at the site.
    """
    site = open_deployed(site_file)
    policy.check(site.policy, experiment, rounds_of(experiment))
    release = read_release(release_folder, site.owner_key)
    check_fits(release.info, experiment, where=str(release_folder))
    torch.set_num_threads(experiment.threads)
    network, source = release.network(), release.network()
    total = engine.adapt_alone(network, source, site.load(experiment).data, experiment, site.name, on_step=on_step)
    write_atomically(out, save({k: v.cpu().contiguous() for k, v in network.state_dict().items()}))
    return {"site": site.name, "steps": total.steps, "visits": total.visits, "losses": total.losses, "out": str(out)}
