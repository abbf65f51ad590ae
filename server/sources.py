"""The releases of an experiment with one source or several, each under its own owner's key."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from server.owner import Say, ensure_release, key_files, release_folder
from socket_core.combined import check_agree, combined_digest
from socket_core.config import Experiment
from socket_core.keys import load_public_key
from socket_core.methods import METHODS
from socket_core.release import Release, read_info, read_release


@dataclass(frozen=True)
class SourceFiles:
    """Where the releases of an experiment lie, the first source's first.

    Attributes:
        folders: One for each source.
        keys: File of the public key that signed each.
    """

    folders: tuple[Path, ...]
    keys: tuple[Path, ...]

    def read(self) -> tuple[Release, ...]:
        """All releases, each checked against its own key.

        Raises:
            ReleaseError: If one is damaged, or they do not share classes and preprocessing.
        """
        releases = tuple(read_release(f, load_public_key(k)) for f, k in zip(self.folders, self.keys, strict=True))
        check_agree([release.info for release in releases])
        return releases

    def digest(self) -> str:
        """What identifies these sources; weights are not read."""
        infos = [read_info(f, load_public_key(k))[0] for f, k in zip(self.folders, self.keys, strict=True)]
        return combined_digest([info.digest for info in infos])


def source_files(home: Path, experiment: Experiment) -> SourceFiles:
    """Where the releases of an experiment lie, whether they are there or not."""
    names = _names(experiment)
    folders = tuple(release_folder(home, experiment, name) for name in names)
    return SourceFiles(folders, tuple(key_files(home, name)[1] for name in names))


def ensure_sources(
    experiment: Experiment,
    home: Path,
    cache: Path,
    *,
    confirm_batchnorm: bool,
    say: Say,
    on_epoch: Callable[[int, int, float], None] | None = None,
) -> SourceFiles:
    """The releases that an experiment adapts; trains the source models that are not there.

    Arguments and errors as for :func:`server.owner.ensure_release`.

    Raises:
        MethodError: If there are several sources and the method is for one.
    """
    names = _names(experiment)
    METHODS[experiment.method.name].check_sources(len(names))
    for name in names:
        ensure_release(
            experiment, home, cache, confirm_batchnorm=confirm_batchnorm, say=say, source=name, on_epoch=on_epoch
        )
    return source_files(home, experiment)


def _names(experiment: Experiment) -> tuple[str, ...]:
    """Of all sources; the first has none."""
    return ("", *(further.name for further in experiment.further_sources))
