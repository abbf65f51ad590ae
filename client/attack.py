"""A membership attack of a site on itself: what do the updates that it has sent tell about its images?

Whoever sees one site's updates can do the same. Members are the site's own images; the others must be images of the
same kind that were not used. Nothing leaves.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch

from client import sent
from client.releases import find_release
from client.sent import SentRound
from client.site import Site
from socket_core.combined import combine
from socket_core.config import Experiment
from socket_core.data.types import Images, Index, Pairs
from socket_core.errors import DataError, MethodError
from socket_core.methods import METHODS, needs_pairs
from socket_core.privacy.attack import CONTROL, HEADLINE, SCORES, Attacker, Seen
from socket_core.privacy.membership import Reals
from socket_core.privacy.records import record_digests
from socket_core.seeds import derive_seed
from socket_core.ti_pairs import split_probe

Kind = Literal["TR", "TI"]
View = Literal["none", "first", "all"]
"""What the attacker has: no update, that of the first round alone, or those of all rounds."""


@dataclass(frozen=True)
class Others:
    """Images like the site's own that the job has not used; None: that kind is not attacked."""

    tr: Images | None = None
    ti: Pairs | None = None


@dataclass(frozen=True)
class Scored:
    """One score of members and others; higher for members, if the attack works."""

    kind: Kind
    score: str
    view: View
    members: Reals
    others: Reals

    @property
    def headline(self) -> bool:
        """Whether it is the one of its kind that a report puts first; fixed before anything was measured."""
        return (self.score, self.view) == (HEADLINE, "all")


def kept_rounds(site: Site, job: str = "") -> list[SentRound]:
    """The kept updates of the target network, by round; those of a translator are left out.

    Raises:
        DataError: If there are none.
    """
    known = sent.jobs(site.store)
    if not job and not known:
        raise DataError(
            "nothing was kept of what this site sent",
            where=site.name,
            remedy="set keep_sent: true in site.yaml before a job starts",
        )
    rounds = [r for r in sent.read(site.store, job or known[-1]) if r.stage == "adapt"]
    if not rounds:
        raise DataError(
            "only updates of a translator were kept, which this attack does not read",
            where=f"sent/{job or known[-1]}",
            remedy="wait for the first round of the target network",
        )
    return rounds


def score_site(site: Site, others: Others, rounds: Sequence[SentRound]) -> list[Scored]:
    """The scores of all members and others, for each kind that there are others of and that the method looks at.

    Raises:
        DataError: If some of the others are members.
        MethodError: If the method sends no change.
    """
    experiment = rounds[0].experiment
    if not METHODS[experiment.method.name].trains:
        raise MethodError(
            f"{experiment.method.name} sends no change of the network", where=rounds[0].job, remedy="name another job"
        )
    torch.set_num_threads(experiment.threads)
    data = site.load(experiment).data
    attacker = Attacker(combine([find_release(site, digest) for digest in rounds[0].releases]), experiment)
    seen = [attacker.unknowing(), *(Seen(r.before, r.delta) for r in rounds)]
    out = []
    if others.tr is not None:
        _check_apart(_digests(data.tr), _digests(others.tr), "task-relevant images")
        out += _views("TR", attacker.tr(data.tr, seen), attacker.tr(others.tr, seen))
    if others.ti is not None and needs_pairs(experiment.method):
        _check_apart(record_digests(data.ti), record_digests(others.ti), "pairs")
        used = data.ti.take(attacked_pairs(site.name, experiment, len(data.ti)))
        out += _views("TI", attacker.ti(used, seen), attacker.ti(others.ti, seen))
    return out


def attacked_pairs(site: str, experiment: Experiment, count: int) -> Index:
    """Positions of the pairs that training looked at: a probe of agreement is kept out of it."""
    if experiment.method.trust == "always":
        return np.arange(count, dtype=np.int64)
    return split_probe(count, derive_seed(experiment.seed, site, "ti probe"))[0]


def _views(kind: Kind, members: Sequence[dict[str, Reals]], others: Sequence[dict[str, Reals]]) -> list[Scored]:
    """All scores of one kind: of the source alone, of the first update, and summed over all updates."""
    out = [Scored(kind, CONTROL, "none", members[0][CONTROL], others[0][CONTROL])]
    views: tuple[tuple[View, slice], ...] = (("first", slice(1, 2)), ("all", slice(1, None)))
    for score in SCORES:
        for view, part in views:
            inside, outside = (np.sum([each[score] for each in found[part]], axis=0) for found in (members, others))
            out.append(Scored(kind, score, view, inside, outside))
    return out


def _digests(images: Images) -> list[bytes]:
    return [hashlib.sha256(image.tobytes()).digest() for image in images.pixels]


def _check_apart(members: Sequence[bytes], others: Sequence[bytes], what: str) -> None:
    if common := len(set(members) & set(others)):
        raise DataError(
            f"{common} of the other {what} are the site's own",
            where="others",
            remedy="give images that the job has not used",
        )
