"""Releases: what is written reads back, to the bit."""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from socket_core import release_manifest
from socket_core.errors import ReleaseError
from socket_core.keys import key_id
from socket_core.models import build_network
from socket_core.release import MANIFEST, OWNER_STATEMENT, SIGNATURE, read_info, read_release, write_release
from tests.core.release_builders import ARGS, KEY, PUBLIC, contents, make_network


def test_round_trip(good: Path, network: Any) -> None:
    release = read_release(good, PUBLIC)
    expected = {key: value for key, value in ARGS.items() if key != "confirm_batchnorm"}
    found = dataclasses.asdict(release.info)
    digest = hashlib.sha256((good / MANIFEST).read_bytes()).hexdigest()
    assert found == {**expected, "owner_statement": OWNER_STATEMENT, "digest": digest, "settings_digest": ""}
    assert release.state.keys() == network.state_dict().keys()
    for key, value in network.state_dict().items():
        assert torch.equal(release.state[key], value)
        assert release.state[key].dtype == value.dtype


def test_network_is_frozen_and_its_own(good: Path, network: Any) -> None:
    release = read_release(good, PUBLIC)
    copy = release.network()
    assert not any(module.training for module in copy.modules())
    assert not any(p.requires_grad for p in copy.parameters())
    x = torch.rand(2, 3, 48, 48)
    reference = build_network("tiny", 8, 3)
    reference.load_state_dict(network.state_dict())
    torch.testing.assert_close(copy(x), reference.eval()(x), rtol=0, atol=0)
    torch.nn.init.zeros_(copy.get_parameter("bottleneck.0.weight"))
    assert release.state["bottleneck.0.weight"].any()
    assert release.network().get_parameter("bottleneck.0.weight").any()


def test_writing_leaves_the_network_and_global_random_state_alone(tmp_path: Path) -> None:
    network = make_network()
    before, state = torch.get_rng_state(), {k: v.clone() for k, v in network.state_dict().items()}
    write_release(tmp_path / "r", network, KEY, **ARGS)
    read_release(tmp_path / "r", PUBLIC).network()
    assert torch.equal(before, torch.get_rng_state())
    assert network.training
    assert all(p.requires_grad for p in network.parameters())
    assert all(torch.equal(state[k], v) for k, v in network.state_dict().items())


def test_same_input_writes_same_bytes(tmp_path: Path, good: Path) -> None:
    write_release(tmp_path / "again", make_network(), KEY, **ARGS)
    assert contents(tmp_path / "again") == contents(good)


@settings(max_examples=25, deadline=None)
@given(
    mean=st.tuples(*[st.floats(allow_nan=False, allow_infinity=False)] * 3),
    std=st.tuples(*[st.floats(min_value=0, exclude_min=True, allow_infinity=False)] * 3),
    accuracy=st.floats(0, 1),
    seed=st.integers(-(2**63), 2**63 - 1),
    epochs=st.integers(0, 2**32 - 1),
)
def test_numbers_round_trip(mean: Any, std: Any, accuracy: float, seed: int, epochs: int) -> None:
    info = release_manifest.ReleaseInfo(
        name="n", created_at=0, backbone="tiny", bottleneck_dim=1, classes=("a",), image_size=1, mean=mean, std=std,
        source_accuracy=accuracy, epochs=epochs, seed=seed, best_epoch=epochs, owner_statement="s", digest="",
    )  # fmt: skip
    raw = release_manifest.encode(release_manifest.compose(info, [], b"w", key_id(PUBLIC)))
    found = release_manifest.describe(release_manifest.decode(raw, where=""), raw)
    assert dataclasses.replace(found, digest="") == info


def test_half_precision(tmp_path: Path) -> None:
    write_release(tmp_path / "r", make_network().to(torch.bfloat16), KEY, **ARGS)
    release = read_release(tmp_path / "r", PUBLIC)
    assert release.state["bottleneck.0.weight"].dtype == torch.bfloat16
    assert release.network().get_parameter("bottleneck.0.weight").dtype == torch.float32


def test_read_info(folder: Path) -> None:
    info, manifest = read_info(folder, PUBLIC)
    assert info.classes == ARGS["classes"]
    assert manifest.public_key_id.hex() == key_id(PUBLIC)
    assert manifest.publishes_batchnorm_statistics
    assert "easier to invert" in info.owner_statement
    (folder / SIGNATURE).unlink()
    assert read_info(folder, None)[0] == info
    with pytest.raises(ReleaseError, match="missing"):
        read_info(folder, PUBLIC)
