"""The file of an adapted network says all that is needed to use it, and is refused when it does not."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from socket_core.errors import ConfigError, ReleaseError
from socket_core.export.card import KEY, check_experiment, check_made_from, plain, read_adapted, write_adapted
from socket_core.release import read_release
from tests.core.builders import experiment, normal_batch
from tests.core.export_builders import adapted, card, model
from tests.core.release_builders import PUBLIC, folder, good, network

__all__ = ["folder", "good", "network"]


@pytest.mark.parametrize("sources", [1, 2])
def test_what_was_adapted_comes_back_with_its_buffers_and_mixing(tmp_path: Path, sources: int) -> None:
    _, found = adapted(tmp_path, sources)
    assert found.card == card(sources)
    again, x = found.network(), normal_batch()
    assert not again.training
    with torch.no_grad():
        assert torch.equal(again(x), model(sources)(x))
    assert again.state_dict().keys() == model(sources).state_dict().keys()


@pytest.mark.parametrize("sources", [1, 2])
def test_classifier_weights_written_out_are_the_same_network(tmp_path: Path, sources: int) -> None:
    baked, x = plain(model(sources)), normal_batch()
    assert not any("parametrizations" in key for key in baked.state_dict())
    write_adapted(tmp_path / "plain.safetensors", baked.state_dict(), card(sources))
    again = read_adapted(tmp_path / "plain.safetensors").network()
    with torch.no_grad():
        assert torch.allclose(again(x), model(sources)(x), atol=1e-6, rtol=0)


def test_files_that_cannot_be_used_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    state = {key: value.contiguous() for key, value in model().state_dict().items()}
    path.write_bytes(b"no such thing")
    with pytest.raises(ReleaseError, match="found no safetensors"):
        read_adapted(path)
    save_file(state, path)
    with pytest.raises(ReleaseError, match="neither classes nor how images are prepared") as caught:
        read_adapted(path)
    assert "adapt again" in caught.value.remedy
    save_file(state, path, metadata={KEY: card().model_dump_json().replace('"shot"', "7")})
    with pytest.raises(ReleaseError, match="its card cannot be read: method"):
        read_adapted(path)
    save_file({**state, "bottleneck.0.bias": torch.full((8,), torch.nan)}, path, {KEY: card().model_dump_json()})
    with pytest.raises(ReleaseError, match="'bottleneck.0.bias' holds NaN"):
        read_adapted(path)
    with pytest.raises(FileNotFoundError):
        read_adapted(tmp_path / "absent.safetensors")


def test_state_and_card_of_different_networks_are_refused(tmp_path: Path) -> None:
    _, found = adapted(tmp_path)
    with pytest.raises(ReleaseError, match="different networks"):
        dataclasses.replace(found, card=card(2)).network()


def test_other_releases_or_another_order_are_refused(folder: Path) -> None:
    info = read_release(folder, PUBLIC).info
    zero, one = (dataclasses.replace(info, digest=str(i) * 64) for i in range(2))
    check_made_from(card(2), [zero, one], where="x")
    for given in ([one, zero], [zero], [info, one]):
        with pytest.raises(ReleaseError, match="adapted from 0000000000000000, 1111111111111111, given"):
            check_made_from(card(2), given, where="x")


def test_an_experiment_that_prepares_images_otherwise_is_refused() -> None:
    asked = experiment()
    data = asked.data.model_copy(update={"size": 16, "mean": (0.485, 0.456, 0.4), "std": (0.229, 0.25, 0.3)})
    check_experiment(card(), asked.model_copy(update={"data": data}), where="e.yaml")
    changes = {"modality": "nir", "size": 32, "target_mean": (0.5, 0.5, 0.5), "target_std": (1.0, 1.0, 1.0)}
    for key, value in changes.items():
        other = asked.model_copy(update={"data": data.model_copy(update={key: value})})
        with pytest.raises(ConfigError) as caught:
            check_experiment(card(), other, where="e.yaml")
        assert caught.value.where == f"e.yaml: data.{key.removeprefix('target_')}"
