"""Several releases as one model, and the experiments that name them."""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path
from typing import Any

import pytest
import torch

from socket_core.combined import combine, combined_digest
from socket_core.config import OPERATIONAL, Experiment, load_experiment, parse_experiment, parse_experiment_json
from socket_core.ensemble import Ensemble
from socket_core.errors import ConfigError, ReleaseError
from socket_core.models import Network
from socket_core.release import Release, read_release, write_release
from tests.core.builders import changed, snapshot
from tests.core.release_builders import ARGS, KEY, PUBLIC, make_network


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Release:
    """A sound release of a tiny network."""
    folder = tmp_path_factory.mktemp("release") / "one"
    write_release(folder, make_network(), KEY, **ARGS)
    return read_release(folder, PUBLIC)


def _other(release: Release, **changes: Any) -> Release:
    return Release(dataclasses.replace(release.info, digest="e" * 64, **changes), release.state)


def test_one_release_is_its_network_and_nothing_else(release: Release) -> None:
    model = combine([release])
    assert type(model) is Network
    assert changed(snapshot(release.network()), snapshot(model)) == set()
    assert combined_digest([release.info.digest]) == release.info.digest


def test_two_releases_are_a_frozen_ensemble_that_shares_nothing(release: Release) -> None:
    model = combine([release, _other(release)])
    assert isinstance(model, Ensemble)
    assert not model.training
    assert not any(p.requires_grad for p in model.parameters())
    tensors = list(model.state_dict().values())
    assert len({t.data_ptr() for t in tensors}) == len(tensors)
    x = torch.rand(2, 3, 48, 48, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():  # twins that weigh alike are one of them
        assert torch.allclose(model(x), release.network()(x), atol=1e-6)


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ({"classes": ("table", "chair", "lämp")}, "classes"),
        ({"classes": ("chair", "table")}, "classes"),
        ({"image_size": 64}, "image_size"),
        ({"mean": (0.5, 0.5, 0.5)}, "mean"),
        ({"std": (0.5, 0.5, 0.5)}, "std"),
    ],
)
def test_sources_of_other_classes_or_preprocessing_are_refused(
    release: Release, change: dict[str, Any], key: str
) -> None:
    with pytest.raises(ReleaseError, match=rf"release 'demo' eeee.*: {key} .*the first source has") as caught:
        combine([release, _other(release, **change)])
    assert caught.value.remedy


def test_the_order_of_sources_is_part_of_what_identifies_them() -> None:
    assert combined_digest(["a", "b"]) != combined_digest(["b", "a"])


# --- in the configuration


def _with(*sources: dict[str, Any], **rest: Any) -> Experiment:
    return parse_experiment({"further_sources": list(sources), **rest}, where="test")


def test_each_source_is_trained_by_its_own_network_and_seed() -> None:
    both = _with({"name": "lab", "backbone": "tiny_wide", "bottleneck_dim": 6}, {"name": "fab", "seed": 9}, seed=3)
    lab, fab = both.trainer("lab"), both.trainer("fab")
    assert both.trainer() is both
    assert (lab.network.backbone, lab.network.bottleneck_dim) == ("tiny_wide", 6)
    assert fab.seed == 9
    assert len({both.seed, lab.seed, _with({"name": "lab"}, seed=4).trainer("lab").seed}) == 3
    assert lab.further_sources == ()
    assert len({e.source_digest() for e in (both, lab, fab)}) == 3
    with pytest.raises(ConfigError, match="no source 'pub'") as caught:
        both.trainer("pub")
    assert "lab, fab" in caught.value.remedy


def test_further_sources_decide_the_experiment_and_not_the_first_source() -> None:
    alone, both = _with(), _with({"name": "lab"})
    assert both.digest() != alone.digest()
    assert both.digest() != _with({"name": "lab", "backbone": "resnet18"}).digest()
    assert both.source_digest() == alone.source_digest()
    assert parse_experiment_json(both.model_dump_json(), where="message") == both


def test_without_further_sources_the_digest_does_not_know_of_them() -> None:
    # What earlier versions kept on disk under the digest of an experiment stays its own.
    absent: dict[str, Any] = dict.fromkeys(("further_sources", "privacy", "site_privacy", "precision"), True)
    later = {"federation": OPERATIONAL["federation"] | {"download_dtype": True}}
    known = Experiment().model_dump_json(exclude=OPERATIONAL | absent | later)
    assert "further_sources" not in known
    assert Experiment().digest() == hashlib.sha256(known.encode()).hexdigest()


@pytest.mark.parametrize("names", [("owner",), ("Owner",), ("lab", "lab"), ("lab", "LAB")])
def test_sources_need_names_of_their_own(names: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError, match="names must differ, and none may be 'owner'"):
        _with(*({"name": name} for name in names))


@pytest.mark.parametrize("text", ["- {name: ../lab}", "- {nam: lab}", "- {name: lab, seed: -1}", "lab"])
def test_a_wrong_further_source_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "experiment.yaml"
    path.write_text(f"further_sources:\n  {text}\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="further_sources") as caught:
        load_experiment(path)
    assert caught.value.where == str(path)
