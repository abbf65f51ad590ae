"""Normalisation by modality: the target follows the source unless told otherwise, and the release is the source's."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from socket_core.config import Experiment, parse_experiment, parse_experiment_json
from socket_core.data.loader import Loader, Preprocessing
from socket_core.data.types import Images
from socket_core.engine import Segment, adapt
from socket_core.errors import ConfigError
from tests.core.builders import experiment, site_data, tiny_network

IMAGENET: dict[str, Any] = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}


def _experiment(**data: Any) -> Experiment:
    return parse_experiment({"data": data}, where="test")


def test_the_target_follows_the_source() -> None:
    data = _experiment(**IMAGENET).data
    assert Preprocessing.of(data) == Preprocessing.of(data, "rgb") == Preprocessing.of(data, "depth")
    assert Preprocessing.of(data).mean == (0.485, 0.456, 0.406)
    assert Preprocessing.of(_experiment(mean=0.4).data).mean == (0.4,) * 3


def test_the_target_may_differ() -> None:
    data = _experiment(**IMAGENET, target_mean=0.3, target_std=[0.1, 0.2, 0.3]).data
    assert Preprocessing.of(data, "rgb").std == (0.229, 0.224, 0.225)
    assert (Preprocessing.of(data).mean, Preprocessing.of(data).std) == ((0.3,) * 3, (0.1, 0.2, 0.3))


def test_each_half_of_a_pair_gets_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[int, Preprocessing]] = []

    class Spy(Loader):
        def __init__(self, images: Images, prep: Preprocessing, device: torch.device) -> None:
            seen.append((images.pixels.ndim, prep))
            super().__init__(images, prep, device)

    for module in ("engine", "ti_pairs"):
        monkeypatch.setattr(f"socket_core.{module}.Loader", Spy)
    job = experiment(data__mean=0.4, data__target_mean=0.6)
    adapt(tiny_network(), tiny_network(), site_data(), job, Segment("a", 1, 1, 1, True))
    used = {(dimensions, prep.mean[0]) for dimensions, prep in seen}
    assert used == {(3, 0.6), (4, 0.4)}
    assert len(seen) == 3  # TR images, and both halves of the pairs


@pytest.mark.parametrize("value", [0.25, [0.485, 0.456, 0.406]])
def test_one_number_or_three_travel_as_json(value: object) -> None:
    one = _experiment(mean=value, target_mean=value)
    again = parse_experiment_json(one.model_dump_json(), where="message")
    assert again == one
    assert again.digest() == one.digest()
    assert _experiment(mean=0.25).source_digest() == _experiment(mean=[0.25] * 3).source_digest()


@pytest.mark.parametrize(
    ("data", "key"),
    [
        ({"mean": [0.1, 0.2]}, "data.mean"),
        ({"mean": "grey"}, "data.mean"),
        ({"mean": [0.1, 0.2, True]}, "data.mean"),
        ({"std": 0}, "data.std"),
        ({"std": [0.1, 0.1, -0.1]}, "data.std"),
        ({"target_std": 0.0}, "data.target_std"),
    ],
)
def test_other_values_are_refused(data: dict[str, Any], key: str) -> None:
    with pytest.raises(ConfigError, match=f"key '{key}'"):
        _experiment(**data)


BASE = _experiment().source_digest()


@pytest.mark.parametrize(
    "data",
    [
        {"target_mean": 0.3},
        {"target_std": 0.3},
        {"target_folder": "depth"},
        {"rotated": True},
        {"target_sensors": ["kv1"]},
        {"ti_sensors": ["kv1"]},
        {"lists": {"target_train": "t", "target_test": "t", "ti_rgb": "t", "ti_target": "t"}},
    ],
)
def test_keys_of_the_target_leave_the_source_model_alone(data: dict[str, Any]) -> None:
    assert _experiment(**data).source_digest() == BASE
    assert _experiment(**data).digest() != _experiment().digest()


@pytest.mark.parametrize(
    "data",
    [
        {"kind": "sunrgbd"},
        {"mean": 0.3},
        {"rgb_folder": "image"},
        {"train_split": "t"},
        {"test_split": "t"},
        {"test_fraction": 0.5},
        {"source_sensors": ["kv1"]},
        {"skip_broken": True},
        {"lists": {"source_train": "s"}},
        {"lists": {"source_test": "s"}},
    ],
)
def test_keys_of_the_source_make_another_source_model(data: dict[str, Any]) -> None:
    assert _experiment(**data).source_digest() != BASE
