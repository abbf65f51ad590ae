"""Who a site is and what it holds, from its own disk when deployed, from the experiment when simulated."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from flwr.app import Context

from client.egress import Gate
from client.images import load_held_out, load_pairs, load_tr
from client.journal import Journal
from client.policy import SIMULATION, limits
from client.site_file import SiteFile, SitePolicy, read_site_file
from client.store import SiteStore
from socket_core import own_names
from socket_core.config import DataConfig, Experiment
from socket_core.data.catalogue import load_task, site_name, split_task
from socket_core.data.types import Index, Labelled, Modality, SiteData
from socket_core.errors import ConfigError
from socket_core.keys import load_public_key
from socket_core.methods import needs_pairs
from socket_core.privacy.ledger import Account, Ledger
from socket_core.privacy.records import record_digests
from socket_core.run_config import RunConfig


@dataclass(frozen=True)
class Reporting:
    """Labels that exist in simulation only, for reports and for the oracle."""

    tr_labels: Index
    held_out: Labelled


@dataclass(frozen=True)
class Holdings:
    """A site's images.

    Attributes:
        data: Unlabelled TR images and TI pairs: all that adaptation sees.
        reporting: Labels, in simulation.
        pair_files: RGB and target file of each TI pair, where there are files.
    """

    data: SiteData
    reporting: Reporting | None = None
    pair_files: tuple[tuple[Path, Path], ...] | None = None

    def pair_digests(self) -> list[bytes]:
        """What the ledger knows each TI pair by: of the files where there are any, whatever size a run asks for."""
        if self.pair_files is None:
            return record_digests(self.data.ti)
        return [hashlib.sha256(rgb.read_bytes() + b"\0" + own.read_bytes()).digest() for rgb, own in self.pair_files]

    @property
    def transductive(self) -> Labelled | None:
        """The site's own TR images with their labels: the papers' test set."""
        return Labelled(self.data.tr, self.reporting.tr_labels) if self.reporting is not None else None


@dataclass(frozen=True)
class Site:
    """One site.

    Attributes:
        name: Stable name; random draws and files are keyed by it, never by Flower's node id.
        modality: Of its target images.
        policy: What it allows.
        owner_key: The model owner's key that it pins.
        store: Its folder.
        load: Reads its images, at the size of the experiment.
        simulated: Whether its images are the run's own: only then are there labels, and only then do
            confusion counts leave.
        further_owner_keys: Keys of the owners of further sources that it pins too.
        keep_sent: Whether it keeps a copy of what it sends, for an attack of its own.
        labelled: Whether there are labelled images to test on.
        held_out: Reads labelled target images to test on, given the classes; None if there are none. Deployed, counts
            of them leave only if the policy allows it.
    """

    name: str
    modality: Modality
    policy: SitePolicy
    owner_key: Ed25519PublicKey
    store: SiteStore
    load: Callable[[Experiment], Holdings]
    simulated: bool = False
    further_owner_keys: tuple[Ed25519PublicKey, ...] = ()
    keep_sent: bool = False
    labelled: bool = False
    held_out: Callable[[Experiment, Sequence[str]], Labelled | None] = lambda _experiment, _classes: None

    @property
    def pinned_keys(self) -> tuple[Ed25519PublicKey, ...]:
        """A release counts if one of these signed it."""
        return (self.owner_key, *self.further_owner_keys)

    @property
    def ledger_file(self) -> Path:
        """Where what was spent on its TI pairs is written down."""
        return self.store.home / "ledger.sqlite"

    @property
    def journal_file(self) -> Path:
        """Where what left is written down."""
        return self.store.home / "egress.sqlite"

    @property
    def site_ledger_file(self) -> Path:
        """Where the rounds that protect the site as a whole are written down: another unit, another ledger."""
        return self.store.home / "site-level.sqlite"

    def budget(self, experiment: Experiment, holdings: Holdings, job: str, round_: int | None = None) -> Account | None:
        """What a job may spend on the TI pairs; None if it asks for no DP or does not look at them.

        Each charge says how many messages had left by then and what the last one is told by. So an auditor sees,
        without trusting a clock, that a round was charged before its update left, and that the journal was not begun
        anew.

        Args:
            experiment: What the job asks for.
            holdings: The site's images.
            job: The job's name.
            round_: Of a federation; None where nothing is sent.

        Raises:
            PrivacyError: If ledger or journal were there and are missing, altered or damaged.
        """
        if experiment.privacy is None or not needs_pairs(experiment.method):
            return None
        left, mark = Journal(self.journal_file).mark()
        about: dict[str, str | float] = {"left": left, "left_mark": mark}
        if round_ is not None:
            about["round"] = round_
        allowed = limits(self.policy, experiment)
        return Ledger(self.ledger_file).account(holdings.pair_digests(), job, allowed, about)

    @property
    def gate(self) -> Gate:
        """What may leave this site."""
        return Gate(
            self.name,
            self.journal_file,
            statistics="pooled" in self.policy.bn_policies,
            held_out=self.simulated or self.policy.held_out_counts,
            transductive=self.simulated,
            validation=self.policy.validation_scores,
            translator="shared" in self.policy.translators,
        )


def open_site(context: Context) -> Site:
    """The site that this Flower node is.

    Raises:
        ConfigError: If the node's configuration names neither a site file nor a partition.
        DataError: If the site's images cannot be used.
    """
    node = context.node_config
    if "site-config" in node:
        return open_deployed(Path(str(node["site-config"])))
    if "partition-id" in node and "num-partitions" in node:
        index, sites = int(str(node["partition-id"])), int(str(node["num-partitions"]))
        return open_simulated(RunConfig.of(context.run_config), index, sites)
    raise ConfigError(
        "the node says neither which site it is nor which partition",
        where="--node-config",
        remedy="start it with --node-config 'site-config=\"/absolute/path/site.yaml\"'",
    )


def open_simulated(run: RunConfig, index: int, sites: int) -> Site:
    """Site ``index`` of ``sites``; its images are its share of the experiment's data.

    It pins the keys in the run's own folder: a simulation shows that signatures are checked, not that a key
    was exchanged safely.
    """
    experiments, keys = run.experiments(), run.home / "keys"
    name = site_name(index)

    def load(experiment: Experiment) -> Holdings:
        # Not the request's: the folder of images does not travel. A run of several files may have several.
        data = _own_data(experiment, experiments)
        task = load_task(data, cache=run.cache)
        share = split_task(task, experiment, sites)[index]
        return Holdings(share.data, Reporting(share.tr_labels, task.target_test))

    return Site(
        name=name,
        modality=experiments[0].data.modality,
        policy=SIMULATION.model_copy(update={"methods": (*SIMULATION.methods, *own_names.METHODS)}),
        owner_key=load_public_key(keys / "owner.pub.pem"),
        store=SiteStore(run.home / "sites" / name),
        load=load,
        simulated=True,
        labelled=True,
        further_owner_keys=tuple(load_public_key(keys / f"{s.name}.pub.pem") for s in experiments[0].further_sources),
    )


def _own_data(asked: Experiment, known: Sequence[Experiment]) -> DataConfig:
    """The run's own ``data`` section that a request is about; folders of images do not travel.

    Where files differ in nothing but their folders, the experiment's name tells them apart.

    Raises:
        ConfigError: If no file of the run has these settings, or several with different folders.
    """

    def settings(experiment: Experiment) -> dict[str, Any]:
        return experiment.data.model_dump(exclude={"root", "ti_root"})

    fitting = [own for own in known if settings(own) == settings(asked)]
    found = {own.data for own in [own for own in fitting if own.name == asked.name] or fitting}
    if not found:
        raise ConfigError("no experiment of this run has these data", where="data", remedy="give its file in config")
    if len(found) > 1:
        raise ConfigError(
            "several experiments of this run have these data in different folders",
            where="data",
            remedy="give each its own name",
        )
    return found.pop()


def open_deployed(path: Path) -> Site:
    """The site that ``site.yaml`` describes.

    Raises:
        ConfigError: If the file is missing or a key is wrong.
    """
    file = read_site_file(path)
    file.home.mkdir(mode=0o700, parents=True, exist_ok=True)  # decoded images are cached below it
    return site_of(file)


def site_of(file: SiteFile) -> Site:
    """The site of a file that has been read; nothing is made on disk.

    Raises:
        ReleaseError: If a pinned key cannot be read.
    """
    return Site(
        name=file.name,
        modality=file.modality,
        policy=file.policy,
        owner_key=load_public_key(file.owner_key),
        store=SiteStore(file.home),
        load=lambda experiment: load_site_file_images(file, experiment),
        further_owner_keys=tuple(load_public_key(path) for path in file.further_owner_keys),
        keep_sent=file.keep_sent,
        labelled=file.held_out is not None,
        held_out=partial(load_held_out, file),
    )


def load_site_file_images(file: SiteFile, experiment: Experiment) -> Holdings:
    """The images of a deployed site, at the size of the experiment.

    Raises:
        DataError: If images are missing, unreadable or not paired.
    """
    tr, (pairs, files) = load_tr(file, experiment), load_pairs(file, experiment)
    return Holdings(SiteData(tr, pairs), pair_files=files)
