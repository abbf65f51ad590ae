"""One federation: what it is about, and what it asks sites for in each round."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast, get_args

import numpy as np
from flwr.app import RecordDict

from protos.codec import encode, sha256
from protos.wire_pb2 import RoundRequest
from server.sources import SourceFiles
from server.state import ServerState
from socket_core.config import Experiment
from socket_core.errors import ConfigError
from socket_core.packing import Packed
from socket_core.release import Release
from socket_core.stages import federated_rounds, place_of

Resume = Literal["no", "yes", "auto"]


def parse_resume(text: str) -> Resume:
    """``no``, ``yes`` or ``auto``; raises ConfigError for anything else."""
    for known in get_args(Resume):
        if text == known:
            return cast(Resume, known)
    raise ConfigError(f"expected no, yes or auto, found {text!r}", where="resume", remedy='give resume="yes"')


@dataclass(frozen=True)
class Job:
    """One federation.

    Attributes:
        experiment: What to do.
        release: The source model, or the first of several.
        release_folder: Where its files lie.
        home: Folder for checkpoints and ``rounds.jsonl``.
        resume: ``yes`` goes on from the newest checkpoint if there is one, and refuses one of another job;
            ``auto`` starts anew instead of refusing; ``no`` starts anew, but not over an unfinished run.
        further: Release and folder of each further source.
    """

    experiment: Experiment
    release: Release
    release_folder: Path
    home: Path
    resume: Resume = "no"
    further: tuple[tuple[Release, Path], ...] = ()

    @classmethod
    def of(cls, experiment: Experiment, files: SourceFiles, home: Path, resume: Resume = "no") -> Job:
        """The job that adapts the releases in ``files``, which are read and checked."""
        (release, folder), *further = zip(files.read(), files.folders, strict=True)
        return cls(experiment, release, folder, home, resume, tuple(further))

    @property
    def releases(self) -> tuple[Release, ...]:
        """Of all sources, the first one's first."""
        return (self.release, *(release for release, _ in self.further))

    @property
    def digests(self) -> list[str]:
        """Of the releases, in the same order."""
        return [release.info.digest for release in self.releases]

    @property
    def rounds(self) -> int:
        """Rounds to run."""
        return federated_rounds(self.experiment)


def travelling(experiment: Experiment) -> Experiment:
    """The experiment as sites see it: where the owner keeps files is nobody else's business."""
    data = experiment.data.model_copy(update={"root": "", "ti_root": ""})
    network = experiment.network.model_copy(update={"weights": ""})
    return experiment.model_copy(update={"data": data, "network": network})


@dataclass(frozen=True)
class Step:
    """The change from one round's parameters to those of the next, as it travels.

    Attributes:
        base_sha256: Of the parameters before it.
        change: What is added to them, in memory.
    """

    base_sha256: bytes
    change: Packed


def request_for(
    job: Job,
    state: ServerState,
    *,
    to_train: bool = True,
    keep_round: int = 0,
    by: Step | Literal["whole", "held"] = "whole",
    digest: bytes = b"",
) -> RecordDict:
    """The request that carries ``state`` to a site, for the round that it names.

    The translator goes along in every round that trains with it: a site that joins late, or a server that resumes,
    needs no memory of who has it.

    Args:
        job: What runs.
        state: The parameters to work with, and the round.
        to_train: Whether to train, or to evaluate.
        keep_round: The best round so far, 0 if rounds are not scored.
        by: How the network's parameters come to the site: whole, as a step from those that it holds, or not at all,
            because it holds them.
        digest: sha256 of the parameters, if it is known already.
    """
    arrays: dict[str, np.ndarray[Any, Any]] = {}
    if state.bridge is not None and to_train:
        arrays["bridge"] = state.bridge
    adapts = place_of(job.experiment, state.round).stage == "adapt"
    if adapts:
        if by == "whole":
            arrays["parameters"] = state.parameters
        elif isinstance(by, Step):
            arrays["change"] = by.change.values
        if state.batchnorm is not None:
            arrays |= {"bn_mean": state.batchnorm.mean, "bn_var": state.batchnorm.var}
    payload = RoundRequest(
        experiment=state.experiment,
        round=state.round,
        rounds=job.rounds,
        release_digest=job.release.info.digest,
        further_release_digests=job.digests[1:],
        experiment_json=travelling(job.experiment).model_dump_json(),
        keep_round=keep_round,
        parameters_sha256=(digest or sha256(state.parameters)) if adapts else b"",
        base_sha256=by.base_sha256 if adapts and isinstance(by, Step) else b"",
        scales=by.change.scales.tolist() if adapts and isinstance(by, Step) else (),
    )
    return encode(payload, arrays)
