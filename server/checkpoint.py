"""Atomic checkpoints of the server's state: a file is either whole or not there.

A checkpoint is one safetensors file, written beside its place, synced, then renamed. Its metadata hold what
a resumed job must agree on: schema, experiment digest and release; and a sum over all of it, since a disk may err.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from server.state import PooledBatchNorm, ServerState
from server.waiting import Waiting
from socket_core.errors import FederationError
from socket_core.exchange import Flat
from socket_core.files import put_atomically
from socket_core.packing import Change, as_it_is, stretches

SCHEMA_VERSION = 2
KEEP = 2
UNROUNDED = "unrounded"
"""The tensor that stays in the file."""


class OtherJobError(FederationError):
    """A sound checkpoint of something else."""


@dataclass(frozen=True)
class Identity:
    """What a checkpoint belongs to; a job resumes only from one that agrees."""

    experiment_digest: str
    release_digest: str


def checkpoint_file(folder: Path, round_: int) -> Path:
    """Where the checkpoint of a round lies."""
    return folder / f"round-{round_:05d}.safetensors"


def save_checkpoint(folder: Path, state: ServerState, identity: Identity, record: dict[str, Any]) -> ServerState:
    """Writes the checkpoint of a round and drops all but the newest two.

    Args:
        folder: Where checkpoints of this job lie.
        state: The state after the round.
        identity: What it belongs to.
        record: The round's metrics, kept until they are in ``rounds.jsonl``.

    Returns:
        The same state; what of it lies in a file is read from the checkpoint from now on.
    """
    path = checkpoint_file(folder, state.round)
    write_checkpoint(path, state, identity, record)
    for old in sorted(folder.glob("round-*.safetensors"))[:-KEEP]:
        old.unlink()
    return replace(state, unrounded=_waiting_in(path, UNROUNDED)) if state.unrounded is not None else state


def write_checkpoint(path: Path, state: ServerState, identity: Identity, record: dict[str, Any]) -> None:
    """Writes one checkpoint file; arguments as for :func:`save_checkpoint`."""
    tensors: dict[str, Change] = {"parameters": as_it_is(state.parameters)}
    if state.batchnorm is not None:
        tensors |= {"bn_mean": as_it_is(state.batchnorm.mean), "bn_var": as_it_is(state.batchnorm.var)}
    if state.bridge is not None:
        tensors["bridge"] = as_it_is(state.bridge)
    if state.unrounded is not None:
        tensors[UNROUNDED] = state.unrounded
    metadata = {
        "schema_version": str(SCHEMA_VERSION),
        "experiment": state.experiment,
        "round": str(state.round),
        "experiment_digest": identity.experiment_digest,
        "release_digest": identity.release_digest,
        "record": json.dumps(record),
    }
    metadata["sha256"] = _sum(tensors, metadata)
    put_atomically(path, lambda temporary: _write(temporary, tensors, metadata))


def _write(path: Path, tensors: Mapping[str, Change], metadata: Mapping[str, str]) -> None:
    """A safetensors file of flat float32 tensors, written a stretch at a time: its library wants them in memory."""
    header: dict[str, Any] = {"__metadata__": dict(metadata)}
    end = 0
    for key, tensor in sorted(tensors.items()):
        start, end = end, end + 4 * len(tensor)
        header[key] = {"dtype": "F32", "shape": [len(tensor)], "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)  # so that values are aligned
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for _, tensor in sorted(tensors.items()):
            for start, stop in stretches(len(tensor)):
                file.write(tensor.floats(start, stop).astype("<f4", copy=False).data)


def _sum(tensors: Mapping[str, Change], metadata: Mapping[str, str]) -> str:
    """sha256 of metadata and tensors."""
    found = hashlib.sha256(json.dumps(sorted(metadata.items())).encode())
    for key, tensor in sorted(tensors.items()):
        found.update(f"{key} float32 ({len(tensor)},)".encode())
        for start, stop in stretches(len(tensor)):
            found.update(tensor.floats(start, stop).data)
    return found.hexdigest()


def load_newest(folder: Path, identity: Identity) -> tuple[ServerState, dict[str, Any]] | None:
    """State and round record of the newest checkpoint, or None if there is none; errors as :func:`read_checkpoint`."""
    files = sorted(folder.glob("round-*.safetensors"))
    return read_checkpoint(files[-1], identity) if files else None


def read_checkpoint(path: Path, identity: Identity) -> tuple[ServerState, dict[str, Any]]:
    """State and round record of one checkpoint file.

    Raises:
        OtherJobError: If it belongs to another experiment or release.
        FederationError: If it is damaged or of another schema.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            names = list(file.keys())
            loaded = {key: _flat(file.get_tensor(key)) for key in names if key != UNROUNDED}
            unrounded = _waiting_in(path, UNROUNDED) if UNROUNDED in names else None
        schema = int(metadata["schema_version"])
    # TypeError and AttributeError are what a type that NumPy lacks ends in.
    except (SafetensorError, KeyError, ValueError, OSError, TypeError, AttributeError) as error:
        raise _unreadable(path, type(error).__name__) from None
    if schema != SCHEMA_VERSION:
        raise FederationError(
            f"checkpoint schema {schema}, this build reads {SCHEMA_VERSION}",
            where=str(path),
            remedy="resume with the version that wrote it, or start in another folder",
        )
    tensors: dict[str, Change] = {key: as_it_is(tensor) for key, tensor in loaded.items()}
    if unrounded is not None:
        tensors[UNROUNDED] = unrounded
    if metadata.pop("sha256", "") != _sum(tensors, metadata):
        raise _unreadable(path, "its sum is another")
    found = Identity(metadata["experiment_digest"], metadata["release_digest"])
    if found != identity:
        what = "experiment" if found.experiment_digest != identity.experiment_digest else "release"
        raise OtherJobError(
            f"the checkpoint belongs to another {what}",
            where=str(path),
            remedy=f"resume with the {what} that it was made with, or start in another folder",
        )
    pooled = PooledBatchNorm(loaded["bn_mean"], loaded["bn_var"]) if "bn_mean" in loaded else None
    round_, parameters = int(metadata["round"]), loaded["parameters"]
    state = ServerState(metadata["experiment"], round_, parameters, pooled, loaded.get("bridge"), unrounded)
    return state, json.loads(metadata["record"])


def _flat(tensor: NDArray[np.generic]) -> Flat:
    """The tensor, which must be what checkpoints hold; another is an error of the file."""
    if tensor.dtype != np.float32 or tensor.ndim != 1:
        raise ValueError("a tensor that is not flat or not float32")
    return tensor  # type: ignore[return-value]  # a comparison of dtypes narrows nothing


def _waiting_in(path: Path, key: str) -> Waiting:
    """A tensor of a sound safetensors file that stays where it is.

    Raises:
        ValueError: If it is not flat or not float32.
        OSError: If the file cannot be read.
    """
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        found = json.loads(file.read(size))[key]
    if found["dtype"] != "F32" or len(found["shape"]) != 1:
        raise ValueError("a tensor that is not flat or not float32")
    none = as_it_is(np.empty(0, np.float32))
    offset, (length,) = 8 + size + found["data_offsets"][0], found["shape"]
    return Waiting(path, offset, length, np.dtype(np.float32), none.scales, none.ends)


def _unreadable(path: Path, why: str) -> FederationError:
    return FederationError(
        f"the checkpoint cannot be read ({why})",
        where=str(path),
        remedy="remove this file to go on from the one before it",
    )


def newest_round(folder: Path, identity: Identity) -> int | None:
    """Round of the newest checkpoint, or None if there is none or it is of another job.

    Raises:
        FederationError: If it cannot be read: nobody can tell then whether it may be thrown away.
    """
    try:
        newest = load_newest(folder, identity)
    except OtherJobError:
        return None
    return newest[0].round if newest is not None else None
