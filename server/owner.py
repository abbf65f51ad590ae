"""What the model owner does before a federation: keys, source training, the release."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from socket_core.config import Experiment
from socket_core.data.catalogue import load_task
from socket_core.data.types import TransferTask
from socket_core.errors import ReleaseError
from socket_core.keys import create_keypair, load_private_key, load_public_key
from socket_core.release import ReleaseInfo, read_info, write_release
from socket_core.release_fit import check_fits, check_network, check_trained_as
from socket_core.source import SourceReport, train_source

Say = Callable[[str], None]


def key_files(home: Path, source: str = "") -> tuple[Path, Path]:
    """Paths of the private and public key of the first source's owner, or of a further source's."""
    stem = source or "owner"
    return home / "keys" / f"{stem}.key.pem", home / "keys" / f"{stem}.pub.pem"


def ensure_keys(home: Path, source: str = "") -> tuple[Path, Path]:
    """Paths of an owner's private and public key, which are made if neither is there."""
    private, public = key_files(home, source)
    if not private.exists() and not public.exists():
        create_keypair(home / "keys", source or "owner")
    return private, public


def release_folder(home: Path, experiment: Experiment, source: str = "") -> Path:
    """Where the release of this experiment and seed lies: the first source's, or a further one's."""
    return home / (f"release-{source}-seed{experiment.seed}" if source else f"release-seed{experiment.seed}")


def train_and_release(
    experiment: Experiment,
    task: TransferTask,
    home: Path,
    *,
    confirm_batchnorm: bool,
    source: str = "",
    on_epoch: Callable[[int, int, float], None] | None = None,
) -> tuple[ReleaseInfo, SourceReport]:
    """Trains a source model, the first or the further one named, and writes its release, signed with its own key.

    Raises:
        ReleaseError: If the owner has not confirmed that BatchNorm statistics are published.
        ConfigError: If there is no source of that name.
    """
    folder, experiment = release_folder(home, experiment, source), experiment.trainer(source)
    require_confirmation(confirm_batchnorm, folder)
    private, _ = ensure_keys(home, source)
    key = load_private_key(private)
    network, report = train_source(
        experiment, task.source_train, task.source_test, len(task.classes), on_epoch=on_epoch
    )
    info = write_release(
        folder,
        network.cpu(),
        key,
        name=experiment.name,
        created_at=int(time.time()),
        backbone=experiment.network.backbone,
        bottleneck_dim=experiment.network.bottleneck_dim,
        classes=task.classes,
        image_size=experiment.data.size,
        mean=experiment.data.mean,
        std=experiment.data.std,
        source_accuracy=report.test_accuracy,
        epochs=experiment.source.epochs,
        seed=experiment.seed,
        best_epoch=report.best_epoch,
        confirm_batchnorm=confirm_batchnorm,
        settings_digest=experiment.source_digest(),
    )
    return info, report


def ensure_release(
    experiment: Experiment,
    home: Path,
    cache: Path,
    *,
    confirm_batchnorm: bool,
    say: Say,
    source: str = "",
    on_epoch: Callable[[int, int, float], None] | None = None,
) -> Path:
    """Folder of a release that this experiment adapts; trains a source model if there is none.

    Args:
        experiment: Which source model.
        home: Keys and release lie below it.
        cache: Rendered or decoded images.
        confirm_batchnorm: Whether the owner accepts the publication of BatchNorm statistics, should there be
            something to train. A comparison publishes to nobody, and embedded scenes are nobody's secret.
        say: Takes lines of text.
        source: Name of a further source; the first if empty.
        on_epoch: Progress of training.

    Raises:
        ReleaseError: If the release that is there was made from another source configuration, or a new one
            would publish statistics that its owner has not confirmed.
    """
    folder = release_folder(home, experiment, source)
    if folder.exists():
        private, public = key_files(home, source)
        info, _ = read_info(folder, load_public_key(public))
        check_fits(info, experiment, where=str(folder))
        # Without the private key a further release is another owner's: how that one trained is not ours to ask.
        check = check_network if source and not private.exists() else check_trained_as
        check(info, experiment.trainer(source), where=str(folder))
        say(f"reusing the source model in {folder} ({info.source_accuracy:.1%} on held-out RGB)")
        return folder
    require_confirmation(confirm_batchnorm, folder)
    say(f"training the source model ({experiment.source.epochs} epochs); it is kept in {folder}")
    task = load_task(experiment.data, cache=cache)
    info, report = train_and_release(
        experiment, task, home, confirm_batchnorm=confirm_batchnorm, source=source, on_epoch=on_epoch
    )
    say(f"source model: {report.test_accuracy:.1%} on held-out RGB, best epoch {report.best_epoch}")
    return folder


def require_confirmation(confirmed: bool, folder: Path) -> None:
    """Refuses to go on without the owner's word on BatchNorm statistics.

    Raises:
        ReleaseError: If ``confirmed`` is False.
    """
    if not confirmed:
        raise ReleaseError(
            "a release publishes BatchNorm statistics of the private source images, which make it easier to "
            "invert the model and to reconstruct such images",
            where=str(folder),
            remedy="if the owner of the data accepts that, pass --confirm-batchnorm-statistics to socket-owner",
        )
