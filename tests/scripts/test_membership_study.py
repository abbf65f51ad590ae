"""The study tosses a fair coin, attacks both arms, and its table says what its file holds."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from client.attack import Scored
from tests.core.builders import site_data

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts"))

import membership_study
import update_tables


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Path]:
    folder = tmp_path_factory.mktemp("study")
    given = ["--quick", "--seeds", "0", "--out", str(folder / "r.json"), "--figure", str(folder / "r.png")]
    assert membership_study.main([*given, "--cache", str(folder / "cache")]) == 0
    return json.loads((folder / "r.json").read_text()), folder


def test_every_image_is_in_or_out_and_the_arms_toss_alike() -> None:
    data = site_data(40, 30)
    used, others = membership_study.divided(data, 3)
    assert others.tr is not None
    assert others.ti is not None
    for whole, inside, outside in (
        (data.tr.pixels, used.tr.pixels, others.tr.pixels),
        (data.ti.rgb.pixels, used.ti.rgb.pixels, others.ti.rgb.pixels),
    ):
        assert sorted(x.tobytes() for x in whole) == sorted(x.tobytes() for x in (*inside, *outside))
    assert 400 < membership_study.tossed(1000, 0, "tr").sum() < 600
    assert (membership_study.tossed(100, 0, "tr") != membership_study.tossed(100, 1, "tr")).any()


def test_both_arms_differ_in_nothing_but_dp() -> None:
    plain, private = (
        membership_study.experiment_for(1, privacy, quick=False).model_dump()
        for privacy in membership_study.ARMS.values()
    )
    assert plain.pop("privacy") is None
    assert private.pop("privacy")["epsilon"] == 3.0
    assert plain == private
    assert (plain["seed"], plain["data"]["seed"], plain["federation"]["partition"]) == (1, 1, "iid")


def test_the_results_file_and_the_picture(results: tuple[dict[str, Any], Path]) -> None:
    found, folder = results
    assert (found["kind"], found["quick"], found["seeds"]) == ("membership", True, [0])
    plain, private = found["arms"]
    assert plain["epsilon"] is None
    assert private["epsilon"]["claim"] <= 3.0
    assert (plain["arm"], private["arm"]) == ("without DP", "with DP")
    for arm in (plain, private):
        assert len(arm["pooled"]) == len(arm["seeds"][0]["attacks"]) == 10
        for one, alone in zip(arm["pooled"], arm["seeds"][0]["attacks"], strict=True):
            assert one["auc"] == pytest.approx(alone["auc"]), "one seed pooled is that seed"
            assert ("tpr" in one) == one["headline"]
            if one["headline"]:
                assert (one["tpr"][-1], one["fpr"][-1]) == (1, 1)
            assert "tpr" not in alone
    with Image.open(folder / "r.png") as image:
        assert min(image.size) > 300


def test_the_table_is_filled_from_the_file(results: tuple[dict[str, Any], Path]) -> None:
    found, folder = results
    text = update_tables.updated("<!-- table: r.json -->\n<!-- /table -->", folder)
    assert text.count("| TR |") == text.count("| TI |") == 10
    one = next(a for a in found["arms"][1]["pooled"] if a["kind"] == "TI" and a["headline"])
    (line,) = (x for x in text.splitlines() if x.startswith("| TI | with DP | alignment * | all |"))
    assert f"| {one['auc']:.3f} ({one['auc_low']:.3f} to {one['auc_high']:.3f}) |" in line
    assert line.endswith(f"| {100 * one['at'][0]['tpr_at_most']:.1f} and {100 * one['at'][1]['tpr_at_most']:.1f} |")
    assert "add or remove one pair" in text
    assert "delta 1e-05" in text


def test_seeds_are_pooled_on_one_scale() -> None:
    def trial(seed: int, offset: float) -> membership_study.Trial:
        members, others = offset + np.array([3.0, 2.0]), offset + np.array([1.0, 0.0])
        return membership_study.Trial(seed, [Scored("TR", "alignment", "all", members, others)], None)

    (one,) = membership_study.pooled([trial(0, 0.0), trial(1, 100.0)])
    assert (one["auc"], one["members"], one["others"], one["headline"]) == (1.0, 4, 4, True)
