"""A site attacks what it has sent: with what the owner has and no more, and in plain words."""

from __future__ import annotations

import copy
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from client.app import app
from client.attack import Others, attacked_pairs, kept_rounds, score_site
from client.attack_report import attack_deployed, attack_site, lines
from client.images import load_tr
from client.roc_figure import draw_found
from client.site import open_deployed
from client.site_file import read_site_file
from client.store import SiteStore
from server.local_grid import LocalGrid
from socket_core.errors import ConfigError, DataError, MethodError, PrivacyError
from socket_core.privacy.accounting import Event, epsilon
from socket_core.privacy.membership import most_tpr
from tests.client.builders import Deployment, write_images
from tests.server.builders import FIRST_NODE, Bench, World

PRIVATE = {"sigma": 2.0, "sample_rate": 0.5, "expected_batch": 4}
SPENT = epsilon([Event(2.0, 0.5, 2)], 1e-5)


@pytest.fixture(scope="module")
def site_file(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A site that has taken part in two rounds under DP, and folders of other images beside it."""
    folder = tmp_path_factory.mktemp("attacked")
    method = {"name": "socket", "trust": "always", "batch": 4}
    federation: dict[str, Any] = {"federation__sites": 1, "federation__quorum": 1, "federation__steps": 1}
    bench = Bench(world, folder, method=method, privacy=PRIVATE, **federation)
    key = world.home / "keys" / "owner.pub.pem"
    policy = {"privacy": {"epsilon": 100.0}}
    site = Deployment(folder / "site", key, keep_sent=True, policy=policy)
    bench.run(LocalGrid(app, {FIRST_NODE: site.context(FIRST_NODE)}))
    write_images(folder / "others" / "tr", 7, "depth", seed=50)
    write_images(folder / "others" / "rgb", 5, "rgb", seed=51)
    write_images(folder / "others" / "depth", 5, "depth", seed=52)
    return site.path


def folders(site_file: Path) -> dict[str, Any]:
    others = site_file.parent.parent / "others"
    return {"others_tr": others / "tr", "others_ti_rgb": others / "rgb", "others_ti_target": others / "depth"}


@pytest.fixture(scope="module")
def found(site_file: Path) -> dict[str, Any]:
    return attack_deployed(site_file, **folders(site_file))


def test_both_kinds_are_attacked_with_every_score_and_view(found: dict[str, Any]) -> None:
    assert (found["method"], found["updates"], found["rounds"]) == ("socket", 2, [1, 2])
    scores = [("loss_before", "none"), *((s, v) for s in ("alignment", "loss_drop") for v in ("first", "all"))]
    assert [(a["kind"], a["score"], a["view"]) for a in found["attacks"]] == [
        (kind, *score) for kind in ("TR", "TI") for score in scores
    ]
    assert [(a["members"], a["others"]) for a in found["attacks"]] == [(8, 7)] * 5 + [(6, 5)] * 5
    assert [(a["kind"], a["score"]) for a in found["attacks"] if a["headline"]] == [
        ("TR", "alignment"),
        ("TI", "alignment"),
    ]
    json.dumps(found, allow_nan=False)


def test_pairs_under_dp_have_the_ledgers_bound_beside_them_and_images_have_none(found: dict[str, Any]) -> None:
    assert found["epsilon"]["claim"] == pytest.approx(SPENT.claim)
    for one in found["attacks"]:
        for rate in one["at"]:
            assert ("tpr_at_most" in rate) == (one["kind"] == "TI")
            if one["kind"] == "TI":
                assert rate["tpr_at_most"] == pytest.approx(most_tpr(rate["fpr"], SPENT.claim, 1e-5))
                assert not rate["breaks_bound"]


def test_the_words_say_what_is_covered_and_what_is_not(found: dict[str, Any]) -> None:
    text = "\n".join(lines(found))
    for words in (
        "task-relevant images, 8 members and 7 others",
        "they have no differential privacy. Nothing bounds",
        f"{SPENT.claim:.3f} by",
        "add or remove one pair",
        "TPR <= e^epsilon FPR + delta",
        "the source's BatchNorm",
    ):
        assert words in text
    assert "ABOVE THE BOUND" not in text
    assert "trained on them without differential privacy" in "\n".join(lines(found | {"epsilon": None}))


def test_the_words_tell_success_unlike_images_and_a_broken_bound(found: dict[str, Any]) -> None:
    worse = copy.deepcopy(found)
    for one in worse["attacks"]:
        one |= {"auc_low": 0.7, "auc": 0.8, "auc_high": 0.9}
        one["at"] = [rate | {"breaks_bound": True} for rate in one["at"]]
    text = "\n".join(lines(worse))
    assert text.count("better than by guessing") == 2
    assert text.count("CAUTION: the source alone") == 2
    assert "ABOVE THE BOUND" in text
    for one in worse["attacks"]:
        one |= {"auc_low": 0.4, "auc": 0.5, "auc_high": 0.6}
    text = "\n".join(lines(worse))
    assert text.count("does not tell them apart") == 2
    assert "CAUTION" not in text


def test_the_sites_own_batchnorm_is_never_read(
    site_file: Path, found: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site, file = open_deployed(site_file), read_site_file(site_file)
    assert list((site.store.home / "jobs").rglob("round-*.safetensors")), "it is there"
    shutil.copytree(site.store.home, tmp_path / "home")
    shutil.rmtree(tmp_path / "home" / "jobs")

    def never(*_: object) -> None:
        raise AssertionError("BatchNorm state was read")

    monkeypatch.setattr(SiteStore, "load_batchnorm", never)
    experiment = kept_rounds(site)[0].experiment
    others = Others(load_tr(file.model_copy(update={"tr": folders(site_file)["others_tr"]}), experiment))
    again = attack_site(replace(site, store=SiteStore(tmp_path / "home")), others)
    assert again["attacks"] == found["attacks"][:5]
    assert again["left_out"] == ["task-irrelevant pairs: not attacked, no unused ones were given."]


def test_others_that_are_members_are_refused(site_file: Path) -> None:
    site = open_deployed(site_file)
    data = site.load(kept_rounds(site)[0].experiment).data
    few = np.array([4, 1])
    with pytest.raises(DataError, match="2 of the other task-relevant images"):
        attack_site(site, Others(data.tr.take(few)))
    with pytest.raises(DataError, match="2 of the other pairs"):
        attack_site(site, Others(ti=data.ti.take(few)))


def test_a_ledger_that_is_gone_is_no_bound(site_file: Path, tmp_path: Path) -> None:
    site = open_deployed(site_file)
    shutil.copytree(site.store.home, tmp_path / "home")
    for path in (tmp_path / "home").glob("ledger.*"):
        path.unlink()
    with pytest.raises(PrivacyError):
        attack_site(replace(site, store=SiteStore(tmp_path / "home")), Others())


def test_pairs_of_the_probe_are_no_members(site_file: Path) -> None:
    experiment = kept_rounds(open_deployed(site_file))[0].experiment
    assert len(attacked_pairs("north", experiment, 100)) == 100
    method = experiment.method.model_copy(update={"trust": "agreement"})
    used = attacked_pairs("north", experiment.model_copy(update={"method": method}), 100)
    assert len(used) == 88


def test_methods_without_pairs_and_without_steps(site_file: Path) -> None:
    site = open_deployed(site_file)
    (first, *_) = kept_rounds(site)

    def named(name: str) -> Any:
        method = first.experiment.method.model_copy(update={"name": name})
        return replace(first, experiment=first.experiment.model_copy(update={"method": method, "privacy": None}))

    pairs = Others(ti=site.load(first.experiment).data.ti)
    assert score_site(site, pairs, [named("shot")]) == []
    with pytest.raises(MethodError, match="adabn sends no change"):
        score_site(site, pairs, [named("adabn")])


@pytest.mark.parametrize("given", [(), ("others_ti_rgb",), ("others_tr", "others_ti_target")])
def test_half_of_the_folders_is_refused(site_file: Path, given: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError, match="both halves"):
        attack_deployed(site_file, **{key: value for key, value in folders(site_file).items() if key in given})


def test_a_site_that_kept_nothing_is_told_how(world: World, tmp_path: Path) -> None:
    site = Deployment(tmp_path, world.home / "keys" / "owner.pub.pem")
    with pytest.raises(DataError, match="keep_sent: true"):
        kept_rounds(open_deployed(site.path))


def test_the_picture(found: dict[str, Any], tmp_path: Path) -> None:
    draw_found(tmp_path / "img" / "roc.png", found)
    with Image.open(tmp_path / "img" / "roc.png") as image:
        assert image.size[0] > image.size[1] > 300, "a panel for each kind"
    draw_found(tmp_path / "tr.png", found | {"attacks": found["attacks"][:5], "epsilon": None})
    with Image.open(tmp_path / "tr.png") as image:
        assert image.size[0] < 700
