"""Several releases as one source model; with one release it is that release's network."""

from __future__ import annotations

from collections.abc import Sequence

from socket_core.ensemble import Ensemble
from socket_core.errors import ReleaseError
from socket_core.models import Model
from socket_core.release import Release, ReleaseInfo


def combine(releases: Sequence[Release]) -> Model:
    """A new source model of one release or more, in eval mode and frozen; backbones may differ.

    Raises:
        ReleaseError: If the releases are not about the same classes, in order, and the same preprocessing.
    """
    check_agree([release.info for release in releases])
    networks = [release.network() for release in releases]
    if len(networks) == 1:
        return networks[0]
    ensemble = Ensemble(networks)
    ensemble.requires_grad_(False).eval()
    return ensemble


def check_agree(infos: Sequence[ReleaseInfo]) -> None:
    """Refuses releases that cannot share one set of logits and one way to prepare images.

    Raises:
        ReleaseError: Naming the release and what differs from the first.
    """
    first = infos[0]
    for info in infos[1:]:
        for what in ("classes", "image_size", "mean", "std"):
            expected, found = getattr(first, what), getattr(info, what)
            if found != expected:
                raise ReleaseError(
                    f"{what} {found}, the first source has {expected}"[:500],
                    where=f"release {info.name!r} {info.digest[:16]}",
                    remedy="all sources of an experiment must share classes, in this order, and preprocessing",
                )


def combined_digest(digests: Sequence[str]) -> str:
    """What identifies these sources in this order; for one release its own digest."""
    return "+".join(digests)
