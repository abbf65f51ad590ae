"""Copies of what a site has sent, round by round, with what it had received: the material of an attack on itself.

Kept only where the site asks for it (``keep_sent``). They never leave, and nothing here removes one: a file holds
8 bytes for each parameter that travels (received, and sent), so 192 MB a round for a ResNet-50.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from client.store import SiteStore
from protos.wire_pb2 import RoundRequest
from socket_core.config import Experiment, parse_experiment_json
from socket_core.errors import DataError
from socket_core.exchange import Flat
from socket_core.files import write_atomically
from socket_core.packing import Packed, as_it_is
from socket_core.stages import Stage, place_of

BEFORE = "before"
"""Name of the parameters received; what was sent goes by the names it had on the wire, the change by ``delta``."""


@dataclass(frozen=True)
class SentRound:
    """One update as it left.

    Attributes:
        job: Its name, as the owner gave it.
        round: Of the job.
        stage: Whose change it is: the target network's (``adapt``) or the translator's (``bridge``).
        experiment: As the request had it.
        releases: Digests of the sources, in order.
        before: The parameters received, float32, flat.
        delta: The change sent, as float32.
    """

    job: str
    round: int
    stage: Stage
    experiment: Experiment
    releases: tuple[str, ...]
    before: Flat
    delta: Flat


def keep(
    store: SiteStore, request: RoundRequest, before: Flat, arrays: Mapping[str, NDArray[np.generic]], delta: Packed
) -> Path:
    """Writes down what has passed the gate; returns the file.

    A round that is asked for again, as after a crash of the server, gets a further file: both have left.

    Args:
        store: The site's folder.
        request: What was asked for.
        before: The parameters that it names.
        arrays: All arrays of the answer.
        delta: The change among them, with what it takes to read it: an int8 one has scales.
    """
    facts = {
        "round": str(request.round),
        "experiment_json": request.experiment_json,
        "releases": " ".join([request.release_digest, *request.further_release_digests]),
    }
    folder, stem = store.sent_folder(request.experiment), f"round-{request.round:05d}"
    names = itertools.chain([stem], (f"{stem}-again-{i:03d}" for i in itertools.count(1)))
    path = next(p for p in (folder / f"{name}.safetensors" for name in names) if not p.exists())
    reading: dict[str, NDArray[np.generic]] = {"scales": delta.scales, "ends": delta.ends} if len(delta.scales) else {}
    write_atomically(path, save({BEFORE: before, **arrays, **reading}, metadata=facts))
    return path


def jobs(store: SiteStore) -> list[str]:
    """Names of the jobs of which something was kept, the latest last."""
    folders = [path for path in (store.home / "sent").glob("*") if path.is_dir()]
    return [path.name for path in sorted(folders, key=lambda path: (path.stat().st_mtime_ns, path.name))]


def read(store: SiteStore, job: str) -> list[SentRound]:
    """All that was kept of a job, by round.

    Raises:
        DataError: If there is nothing, or a file cannot be read.
    """
    paths = sorted(store.sent_folder(job).glob("round-*.safetensors"), key=lambda path: path.stem)
    if not paths:
        raise DataError(
            "nothing was kept of what this job sent",
            where=f"sent/{job}",
            remedy="set keep_sent: true in site.yaml before a job starts",
        )
    return [_read(path) for path in paths]


def _read(path: Path) -> SentRound:
    try:
        with safe_open(path, framework="numpy") as file:
            facts = file.metadata() or {}
            before, delta = file.get_tensor(BEFORE), as_it_is(file.get_tensor("delta"))
            if "scales" in file.keys():  # noqa: SIM118 (not a dict)
                delta = Packed(delta.values, file.get_tensor("scales"), file.get_tensor("ends"))
            change = delta.floats()
        experiment, round_ = parse_experiment_json(facts["experiment_json"], where=path.name), int(facts["round"])
        digests = tuple(facts["releases"].split())
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        raise DataError(
            f"a kept update cannot be read ({type(error).__name__})",
            where=str(path),
            remedy="move the file away; an attack on the others is still worth something",
        ) from None
    stage = place_of(experiment, round_).stage
    return SentRound(path.parent.name, round_, stage, experiment, digests, before, change)
