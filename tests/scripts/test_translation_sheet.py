"""The sheet shows what the translator of a job makes of its own scenes."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.numpy import load_file

from client.app import app
from server import rounds
from server.app import job_folder, job_name
from server.job import Job
from server.local_grid import LocalGrid
from socket_core.data.loader import Loader, Preprocessing
from socket_core.data.scenes import TASK_RELEVANT
from socket_core.engine import make_bridge
from socket_core.exchange import bridge_specs, load_flat
from tests.server.builders import Bench, World

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts"))

import translation_sheet


def run_job(world: World, folder: Path, **changes: Any) -> tuple[Bench, str]:
    """A federated job of one step a round, in a home as a comparison leaves it."""
    bench = Bench(world, folder, federation__steps=1, **changes)
    name, home = job_name(bench.experiment), job_folder(bench.home, bench.experiment)
    job = Job(bench.experiment, bench.release, bench.release_folder, home)
    rounds.run(LocalGrid(app, bench.contexts()), job)
    (bench.home / "experiments").mkdir()
    shutil.copy(bench.config, bench.home / "experiments" / f"{name}.yaml")
    return bench, name


def test_views_show_the_jobs_own_images_and_what_its_translator_makes_of_them(world: World, tmp_path: Path) -> None:
    translator = {"kind": "unet", "width": 8}
    bench, name = run_job(world, tmp_path, method__name="tgkt", method__translator=translator)
    sheet = translation_sheet.collect(bench.home, name, bench.cache, pairs=6, views=3)
    assert not sheet.unseen, "sites with seven pairs keep none out of training"
    assert len({view.label for view in sheet.ti}) == 6
    assert len({view.label for view in sheet.tr} & set(TASK_RELEVANT)) == 3
    assert all(said in TASK_RELEVANT for view in (*sheet.ti, *sheet.tr) for said in view.said)

    task = world.task()
    (path,) = (job_folder(bench.home, bench.experiment) / "checkpoints").glob("round-00002*")
    bridge = make_bridge(bench.experiment, bench.release.network())
    assert bridge is not None
    load_flat(bridge, load_file(path)["bridge"], bridge_specs(bridge))
    x = Loader(task.ti.target, Preprocessing.of(bench.experiment.data), torch.device("cpu")).batch(np.arange(21))
    with torch.no_grad():
        made = (bridge(x) * 0.5 + 0.5).clamp(0, 1).numpy().transpose(0, 2, 3, 1) * 255
    for view in sheet.ti:
        (at,) = [i for i in range(21) if np.array_equal(task.ti.rgb.pixels[i], view.rgb)]
        assert np.abs(view.translated - made[at]).max() <= 0.51
    for view in sheet.tr:
        assert not any(np.array_equal(view.rgb, image) for image in task.source_train.images.pixels)


def test_the_command_writes_a_picture(world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bench, name = run_job(world, tmp_path, method__name="tgkt", method__translator={"kind": "paper", "width": 8})
    out = tmp_path / "img" / "sheet.png"
    arguments = [str(bench.home), "--job", name, "--out", str(out), "--cache", str(bench.cache)]
    assert translation_sheet.main(arguments) == 0
    with Image.open(out) as image:
        assert min(image.size) > 300
    # A job without a translator has nothing to show.
    other, name = run_job(world, tmp_path / "socket", method__name="socket")
    assert translation_sheet.main([str(other.home), "--job", name, "--cache", str(bench.cache)]) == 6
    assert "no translator" in capsys.readouterr().err
