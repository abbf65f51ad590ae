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
from socket_core.release_fit import check_fits, check_trained_as
from socket_core.source import SourceReport, train_source

Say = Callable[[str], None]


def ensure_keys(home: Path) -> tuple[Path, Path]:
    """Paths of the owner's private and public key, which are made if neither is there."""
    private, public = home / "keys" / "owner.key.pem", home / "keys" / "owner.pub.pem"
    if not private.exists() and not public.exists():
        create_keypair(home / "keys", "owner")
    return private, public


def release_folder(home: Path, experiment: Experiment) -> Path:
    """Where the release of this experiment and seed lies."""
    return home / f"release-seed{experiment.seed}"


def train_and_release(
    experiment: Experiment,
    task: TransferTask,
    home: Path,
    *,
    confirm_batchnorm: bool,
    on_epoch: Callable[[int, int, float], None] | None = None,
) -> tuple[ReleaseInfo, SourceReport]:
    """Trains the source model and writes its signed release.

    Raises:
        ReleaseError: If the owner has not confirmed that BatchNorm statistics are published.
    """
    require_confirmation(confirm_batchnorm, release_folder(home, experiment))
    private, _ = ensure_keys(home)
    key = load_private_key(private)
    network, report = train_source(
        experiment, task.source_train, task.source_test, len(task.classes), on_epoch=on_epoch
    )
    info = write_release(
        release_folder(home, experiment),
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
    on_epoch: Callable[[int, int, float], None] | None = None,
) -> Path:
    """Folder of the release that this experiment adapts; trains a source model if there is none.

    Args:
        experiment: Which source model.
        home: Keys and release lie below it.
        cache: Rendered or decoded images.
        confirm_batchnorm: Whether the owner accepts the publication of BatchNorm statistics, should there be
            something to train. A comparison publishes to nobody, and embedded scenes are nobody's secret.
        say: Takes lines of text.
        on_epoch: Progress of training.

    Raises:
        ReleaseError: If the release that is there was made from another source configuration, or a new one
            would publish statistics that its owner has not confirmed.
    """
    folder = release_folder(home, experiment)
    if folder.exists():
        info, _ = read_info(folder, load_public_key(home / "keys" / "owner.pub.pem"))
        check_fits(info, experiment, where=str(folder))
        check_trained_as(info, experiment, where=str(folder))
        say(f"reusing the source model in {folder} ({info.source_accuracy:.1%} on held-out RGB)")
        return folder
    require_confirmation(confirm_batchnorm, folder)
    say(f"training the source model ({experiment.source.epochs} epochs); it is kept in {folder}")
    task = load_task(experiment.data, cache=cache)
    info, report = train_and_release(experiment, task, home, confirm_batchnorm=confirm_batchnorm, on_epoch=on_epoch)
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
