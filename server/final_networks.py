"""The networks with which a finished simulated federation ends, one a site, read again from what it left on disk.

Simulation alone: a deployed owner has the global parameters, and no site's own BatchNorm.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from server.app import job_folder
from server.checkpoint import Identity, load_newest, read_checkpoint
from server.choice import best_round
from server.examples import Said, said_by
from server.journal import Journal
from server.sources import SourceFiles
from server.state import ServerState
from socket_core.batchnorm import Moments, bn_layers, set_running_moments
from socket_core.combined import combine, combined_digest
from socket_core.config import Experiment
from socket_core.data.catalogue import site_name
from socket_core.data.loader import Loader, Preprocessing
from socket_core.data.types import Images
from socket_core.engine import make_bridge
from socket_core.exchange import (
    batchnorm_specs,
    bridge_specs,
    load_batchnorm_state,
    load_flat,
    travelling_specs,
    unflatten,
)
from socket_core.methods.base import reestimate_batchnorm
from socket_core.models import Model
from socket_core.release import Release
from socket_core.stages import bridge_rounds, shares_bridge
from socket_core.translators import Bridge

if TYPE_CHECKING:
    from client.store import SiteStore


@dataclass(frozen=True)
class Ended:
    """What a federation left.

    Attributes:
        home: Of the run, with the folders of its sites.
        experiment: Of the federation.
        releases: Of the source models.
        state: After the round that counts.
    """

    home: Path
    experiment: Experiment
    releases: tuple[Release, ...]
    state: ServerState

    def networks(self) -> Iterator[tuple[str, Model]]:
        """Name and network of each site; a site whose own BatchNorm is not there any more is left out.

        It is one network whose BatchNorm changes: look at it before the next one is asked for.
        """
        policy, pooled = self.experiment.federation.bn_policy, self.state.batchnorm
        network = combine(self.releases)
        load_flat(network, self.state.parameters, travelling_specs(network, policy))
        if policy == "pooled" and pooled is not None:
            specs = batchnorm_specs(network, policy)
            means, variances = unflatten(pooled.mean, specs), unflatten(pooled.var, specs)
            set_running_moments(network, {name: Moments(1, means[name], variances[name]) for name in means})
        for site in map(site_name, range(self.experiment.federation.sites)):
            if policy == "local":
                own = _store_of(self.home, site).load_batchnorm(self.state.experiment, self.state.round)
                if own is None:
                    continue
                load_batchnorm_state(network, own)
            yield site, network

    def translator(self, tr: Callable[[], Images]) -> Bridge | None:
        """The translator of the job, or the first site's own; None without one that learned.

        Args:
            tr: Gives the first site's task-relevant images: a translator's BatchNorm, if it has any, is a site's own.
        """
        experiment, source = self.experiment, combine(self.releases)
        bridge = make_bridge(experiment, source)
        if bridge is None or bridge_rounds(experiment) == 0:
            return None
        if shares_bridge(experiment):
            if self.state.bridge is None:
                return None
            load_flat(bridge, self.state.bridge, bridge_specs(bridge))
        else:
            own = _store_of(self.home, site_name(0)).load_bridge(self.state.experiment)
            if own is None:
                return None
            bridge.load_state_dict(own)
        if bn_layers(bridge):
            device = next(bridge.parameters()).device
            reestimate_batchnorm(bridge, Loader(tr(), Preprocessing.of(experiment.data), device))
        return bridge.requires_grad_(False).eval()


def ended(home: Path, experiment: Experiment, sources: SourceFiles) -> Ended | None:
    """What a finished federation left below ``home``; None if its checkpoints are not there any more.

    Raises:
        FederationError: If a checkpoint is damaged, or of another job.
        ReleaseError: If a release is damaged.
    """
    job = job_folder(home, experiment)
    folder = job / "checkpoints"
    if not any(folder.glob("round-*.safetensors")):
        return None
    releases = sources.read()
    identity = Identity(experiment.digest(), combined_digest([release.info.digest for release in releases]))
    newest = load_newest(folder, identity)
    if newest is None:
        return None
    state = newest[0]
    if best_round(Journal(job / "rounds.jsonl").read()) not in (None, state.round):
        state = read_checkpoint(folder / "best.safetensors", identity)[0]
    return Ended(home, experiment, releases, state)


def said_at_sites(home: Path, experiment: Experiment, sources: SourceFiles, examples: Images) -> tuple[Said, ...]:
    """What each site's final network says of the example images; empty if they are not there any more.

    Arguments and errors as for :func:`ended`.
    """
    left = ended(home, experiment, sources)
    if left is None:
        return ()
    prep = Preprocessing.of(experiment.data)
    return tuple(said_by(network, examples, prep, site) for site, network in left.networks())


def _store_of(home: Path, site: str) -> SiteStore:
    from client.store import SiteStore  # here the owner's code looks at a simulated site's folder

    return SiteStore(home / "sites" / site)
