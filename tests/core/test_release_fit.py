"""A release is used only with the settings that it was made with."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from socket_core.config import parse_experiment
from socket_core.errors import ReleaseError
from socket_core.release_fit import check_fits, check_trained_as
from socket_core.release_manifest import ReleaseInfo

EXPERIMENT = parse_experiment({}, where="test")
INFO = ReleaseInfo(
    name="demo",
    created_at=0,
    backbone="tiny",
    bottleneck_dim=64,
    classes=("a", "b"),
    image_size=48,
    mean=(0.5, 0.5, 0.5),
    std=(0.5, 0.5, 0.5),
    source_accuracy=0.9,
    epochs=20,
    seed=0,
    best_epoch=20,
    owner_statement="",
    digest="",
    settings_digest=EXPERIMENT.source_digest(),
)


def test_a_release_of_the_same_settings_fits() -> None:
    check_fits(INFO, EXPERIMENT, where="here")
    check_trained_as(INFO, EXPERIMENT, where="here")


@pytest.mark.parametrize(
    ("change", "key"),
    [({"image_size": 64}, "data.size"), ({"mean": (0.4,) * 3}, "data.mean"), ({"std": (1.0,) * 3}, "data.std")],
)
def test_images_prepared_otherwise_are_refused(change: dict[str, Any], key: str) -> None:
    with pytest.raises(ReleaseError, match=f"here: made with {key}"):
        check_fits(dataclasses.replace(INFO, **change), EXPERIMENT, where="here")


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ({"seed": 1}, "made with seed 0, the experiment says 1"),
        ({"source": {"epochs": 3}}, "source.epochs 20"),
        ({"source": {"lr": 0.5}}, "other settings"),
        ({"data": {"classes": ["cat", "dog"]}}, "other settings"),
        ({"data": {"scenes": {"source_train": 800}}}, "other settings"),
    ],
)
def test_a_source_model_trained_otherwise_is_refused(raw: dict[str, Any], message: str) -> None:
    with pytest.raises(ReleaseError, match=message):
        check_trained_as(INFO, parse_experiment(raw, where="test"), where="here")


@pytest.mark.parametrize(
    "raw", [{"data": {"modality": "nir"}}, {"method": {"name": "shot"}}, {"federation": {"sites": 2}}]
)
def test_what_concerns_the_target_alone_may_differ(raw: dict[str, Any]) -> None:
    check_trained_as(INFO, parse_experiment(raw, where="test"), where="here")
