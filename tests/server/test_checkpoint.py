"""Checkpoints: whole or not there, and only for the job that they belong to."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.numpy import load_file, save
from safetensors.torch import save as save_torch

from server.checkpoint import (
    KEEP,
    Identity,
    checkpoint_file,
    load_newest,
    newest_round,
    read_checkpoint,
    save_checkpoint,
)
from server.state import PooledBatchNorm, ServerState
from server.waiting import Waiting, put_down
from socket_core.errors import FederationError
from socket_core.files import write_atomically
from socket_core.packing import STRETCH, as_it_is
from tests.server.builders import Kill, tree

OURS = Identity("e" * 64, "r" * 64)


def state(round_: int = 1, *, pooled: bool = False) -> ServerState:
    rng = np.random.default_rng(round_)
    bn = PooledBatchNorm(np.zeros(2, np.float32), np.ones(2, np.float32)) if pooled else None
    return ServerState("job-1", round_, rng.standard_normal(7).astype(np.float32), bn)


@pytest.mark.parametrize("pooled", [False, True])
def test_what_is_saved_is_loaded_to_the_bit(tmp_path: Path, pooled: bool) -> None:
    saved, record = state(pooled=pooled), {"round": 1, "sites": ["a"], "refused": {"b": "no_reply"}}
    save_checkpoint(tmp_path, saved, OURS, record)
    found = load_newest(tmp_path, OURS)
    assert found is not None
    loaded, loaded_record = found
    assert (loaded.experiment, loaded.round, loaded_record) == ("job-1", 1, record)
    assert loaded.parameters.tobytes() == saved.parameters.tobytes()
    assert (loaded.batchnorm is not None) == pooled
    if loaded.batchnorm is not None and saved.batchnorm is not None:
        assert loaded.batchnorm.mean.tobytes() == saved.batchnorm.mean.tobytes()
        assert loaded.batchnorm.var.tobytes() == saved.batchnorm.var.tobytes()


def test_special_values_survive(tmp_path: Path) -> None:
    values = np.array([0.0, -0.0, 1e-45, 3.4028235e38], np.float32)
    save_checkpoint(tmp_path, ServerState("j", 1, values), OURS, {})
    found = load_newest(tmp_path, OURS)
    assert found is not None
    assert found[0].parameters.tobytes() == values.tobytes()


def test_what_rounding_took_is_copied_out_of_the_file_where_it_waits(tmp_path: Path) -> None:
    """And the checkpoint is a file that anybody's safetensors reads, however long the stretches are."""
    rng = np.random.default_rng(0)
    parameters, aim = rng.standard_normal((2, 3 * STRETCH + 5)).astype(np.float32)
    (waiting,) = put_down(tmp_path / "aim.bin", [as_it_is(aim)])
    saved = save_checkpoint(tmp_path, ServerState("j", 1, parameters, unrounded=waiting), OURS, {"é": "ü"})
    (tmp_path / "aim.bin").unlink()
    path = checkpoint_file(tmp_path, 1)
    found, record = read_checkpoint(path, OURS)
    for one in (saved, found):  # both leave it where it is
        assert isinstance(one.unrounded, Waiting)
        assert one.unrounded.path == path
        assert one.unrounded.floats().tobytes() == aim.tobytes()
    assert record == {"é": "ü"}
    read = load_file(path)
    assert {key: tensor.tobytes() for key, tensor in read.items()} == {
        "parameters": parameters.tobytes(),
        "unrounded": aim.tobytes(),
    }


@pytest.mark.parametrize("key", ["parameters", "unrounded"])
@pytest.mark.parametrize("tensor", [np.zeros(7, np.float64), np.zeros((7, 1), np.float32)])
def test_a_tensor_that_no_checkpoint_holds_is_an_error_of_the_file(tmp_path: Path, key: str, tensor: Any) -> None:
    save_checkpoint(tmp_path, state(), OURS, {})
    path = checkpoint_file(tmp_path, 1)
    with safe_open(path, framework="numpy") as file:
        metadata = file.metadata()
    path.write_bytes(save({"parameters": np.zeros(7, np.float32), key: tensor}, metadata))
    with pytest.raises(FederationError, match=r"cannot be read \(ValueError\)"):
        load_newest(tmp_path, OURS)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float8_e4m3fn])
def test_a_type_that_numpy_lacks_is_an_error_of_the_file(tmp_path: Path, dtype: torch.dtype) -> None:
    checkpoint_file(tmp_path, 1).write_bytes(save_torch({"parameters": torch.zeros(7).to(dtype)}, {"round": "1"}))
    with pytest.raises(FederationError, match="cannot be read"):
        load_newest(tmp_path, OURS)


def test_an_empty_or_missing_folder_has_no_checkpoint(tmp_path: Path) -> None:
    assert load_newest(tmp_path, OURS) is None
    assert load_newest(tmp_path / "absent", OURS) is None
    assert newest_round(tmp_path / "absent", OURS) is None


def test_only_the_newest_are_kept(tmp_path: Path) -> None:
    for round_ in range(1, 13):
        save_checkpoint(tmp_path, state(round_), OURS, {})
    assert sorted(tree(tmp_path)) == ["round-00011.safetensors", "round-00012.safetensors"]
    assert newest_round(tmp_path, OURS) == 12
    assert KEEP == 2


def test_killed_before_the_rename_the_checkpoint_before_is_intact(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_checkpoint(tmp_path, state(1), OURS, {})

    def die(*_: object) -> None:
        raise Kill

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", die)
        with pytest.raises(Kill):
            save_checkpoint(tmp_path, state(2), OURS, {})
    assert newest_round(tmp_path, OURS) == 1
    save_checkpoint(tmp_path, state(2), OURS, {})
    assert sorted(tree(tmp_path)) == ["round-00001.safetensors", "round-00002.safetensors"]


@pytest.mark.parametrize(
    ("other", "what"),
    [
        (Identity("x" * 64, "r" * 64), "experiment"),
        (Identity("e" * 64, "x" * 64), "release"),
        (Identity("x" * 64, "x" * 64), "experiment"),
    ],
)
def test_a_checkpoint_of_another_job_is_refused_and_named(tmp_path: Path, other: Identity, what: str) -> None:
    save_checkpoint(tmp_path, state(), OURS, {})
    with pytest.raises(FederationError, match=rf"(?s)round-00001\.safetensors.*another {what}.*resume with the {what}"):
        load_newest(tmp_path, other)
    assert newest_round(tmp_path, other) is None


def test_a_checkpoint_of_another_schema_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("server.checkpoint.SCHEMA_VERSION", 1)
        save_checkpoint(tmp_path, state(), OURS, {})
    with pytest.raises(FederationError, match="schema 1, this build reads 2"):
        load_newest(tmp_path, OURS)


def test_a_truncated_checkpoint_is_named_wherever_it_is_cut(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, state(), OURS, {"round": 1})
    path = checkpoint_file(tmp_path, 1)
    whole = path.read_bytes()
    for size in (*range(0, 40), *range(40, len(whole), 37), len(whole) - 1):
        path.write_bytes(whole[:size])
        with pytest.raises(FederationError, match=r"(?s)round-00001\.safetensors.*remove this file"):
            load_newest(tmp_path, OURS)


def test_a_safetensors_file_that_is_no_checkpoint_is_named(tmp_path: Path) -> None:
    (tmp_path / "round-00001.safetensors").write_bytes(save({"parameters": np.zeros(3, np.float32)}))
    with pytest.raises(FederationError, match=r"round-00001\.safetensors.*cannot be read"):
        load_newest(tmp_path, OURS)


def test_a_bit_that_has_turned_on_the_disk_is_noticed(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, state(3, pooled=True), OURS, {"round": 3, "sites": ["a"]})
    path = checkpoint_file(tmp_path, 3)
    whole, noticed = path.read_bytes(), 0
    for at in range(len(whole)):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        try:
            found, record = read_checkpoint(path, OURS)
            assert (found.round, record) == (3, {"round": 3, "sites": ["a"]})  # white space of the header
            assert found.parameters.tobytes() == state(3).parameters.tobytes()
        except FederationError:
            noticed += 1
    assert noticed > 0.9 * len(whole)


@given(st.binary(max_size=64))
def test_random_bytes_are_never_a_checkpoint(data: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "round-00001.safetensors").write_bytes(data)
        with pytest.raises(FederationError):
            load_newest(Path(folder), OURS)


def test_an_interrupted_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a" / "file"
    write_atomically(path, b"old")

    def die(_descriptor: int) -> None:
        raise Kill

    with monkeypatch.context() as patch:
        patch.setattr("socket_core.files.os.fsync", die)
        with pytest.raises(Kill):
            write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    write_atomically(path, b"new")
    assert tree(tmp_path) == {"a/file": b"new"}
