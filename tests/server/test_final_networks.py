"""What a simulated federation left on disk gives the very networks that its sites tested."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from client.app import app
from server import rounds
from server.app import job_folder
from server.examples import example_images
from server.final_networks import Ended, ended, said_at_sites
from server.job import Job
from server.journal import Journal
from server.local_grid import LocalGrid
from server.sources import source_files
from socket_core.batchnorm import bn_layers
from socket_core.data.catalogue import site_name
from socket_core.data.loader import Loader, Preprocessing
from socket_core.data.types import Images
from socket_core.evaluation import evaluate, predict_logits
from tests.server.builders import Bench, World


def _run(world: World, folder: Path, **changes: Any) -> tuple[Bench, Ended]:
    bench = Bench(world, folder, federation__steps=1, federation__partition="dirichlet:0.5", **changes)
    home = job_folder(bench.home, bench.experiment)
    rounds.run(LocalGrid(app, bench.contexts()), Job(bench.experiment, bench.release, bench.release_folder, home))
    left = ended(bench.home, bench.experiment, source_files(bench.home, bench.experiment))
    assert left is not None
    return bench, left


def _no_images() -> Images:
    raise AssertionError("a translator without BatchNorm looks at no image")


@pytest.mark.parametrize("policy", ["local", "source", "pooled"])
def test_networks_read_again_give_the_counts_that_sites_sent(world: World, tmp_path: Path, policy: str) -> None:
    bench, left = _run(world, tmp_path, federation__bn_policy=policy)
    task, prep = world.task(), Preprocessing.of(bench.experiment.data)
    records = Journal(job_folder(bench.home, bench.experiment) / "rounds.jsonl").read()
    sent = records[-1]["held_out"]["confusion"]
    found = {site: evaluate(network, task.target_test, prep, 8).tolist() for site, network in left.networks()}
    assert found == sent
    assert sorted(found) == [site_name(i) for i in range(3)]

    said = said_at_sites(left.home, left.experiment, source_files(left.home, left.experiment), example_images(task))
    assert [one.site for one in said] == sorted(found)
    for one in said:  # eight held-out images, one of each class: all of them are examples
        counts = np.zeros((8, 8), dtype=int)
        np.add.at(counts, (np.arange(8), np.array(one.predicted)), 1)
        assert counts.tolist() == sent[one.site]


def test_with_a_validator_it_is_the_round_that_scored_best(world: World, tmp_path: Path) -> None:
    bench, left = _run(world, tmp_path, method__validator="im", federation__rounds=3)
    home = job_folder(bench.home, bench.experiment)
    records = Journal(home / "rounds.jsonl").read()
    lines = (home / "rounds.jsonl").read_text().splitlines()
    assert left.state.round == max(records, key=lambda r: (r["validation"]["mean"], -r["round"]))["round"]
    best = records[0]["validation"]["mean"] + 1000
    (home / "rounds.jsonl").write_text(
        "\n".join([lines[0].replace(str(records[0]["validation"]["mean"]), str(best))]) + "\n"
    )
    shutil.copy(home / "checkpoints" / "round-00002.safetensors", home / "checkpoints" / "best.safetensors")
    again = ended(bench.home, bench.experiment, source_files(bench.home, bench.experiment))
    assert again is not None
    assert again.state.round == 2  # whatever best.safetensors holds


def test_what_is_not_there_any_more_is_left_out(world: World, tmp_path: Path) -> None:
    bench, left = _run(world, tmp_path)
    sources = source_files(bench.home, bench.experiment)
    shutil.rmtree(bench.home / "sites" / "site-01")
    assert [site for site, _ in left.networks()] == ["site-00", "site-02"]
    shutil.rmtree(job_folder(bench.home, bench.experiment) / "checkpoints")
    assert ended(bench.home, bench.experiment, sources) is None
    assert said_at_sites(bench.home, bench.experiment, sources, example_images(world.task())) == ()


@pytest.mark.parametrize("exchange", ["shared", "local"])
def test_the_translator_is_the_jobs_or_the_first_sites_own(world: World, tmp_path: Path, exchange: str) -> None:
    translator = {"kind": "unet", "width": 8, "exchange": exchange}
    _, left = _run(world, tmp_path, method__name="tgkt", method__translator=translator)
    bridge = left.translator(_no_images)
    assert bridge is not None
    if exchange == "shared":
        assert left.state.bridge is not None
        flat = torch.cat([value.reshape(-1) for _, value in sorted(bridge.named_parameters())]).numpy()
        assert flat.tobytes() == left.state.bridge.tobytes()
    else:
        (kept,) = (left.home / "sites" / "site-00").rglob("translator.safetensors")
        kept.unlink()
        assert left.translator(_no_images) is None


def test_a_translators_batchnorm_is_the_first_sites(world: World, tmp_path: Path) -> None:
    translator = {"kind": "paper", "width": 8}
    bench, left = _run(world, tmp_path, method__name="tgkt", method__translator=translator)
    images = world.task().target_train.images
    bridge = left.translator(lambda: images)
    assert bridge is not None
    (layer,) = bn_layers(bridge).values()
    x = Loader(images, Preprocessing.of(bench.experiment.data), torch.device("cpu")).batch(np.arange(len(images)))
    convolution = bridge.translator[0]  # type: ignore[index]  # the pointwise convolution before it
    with torch.no_grad():
        mean = convolution(x[:, :1]).double().mean((0, 2, 3))
    assert torch.allclose(layer.running_mean.double(), mean, atol=1e-3)  # type: ignore[union-attr]  # a BatchNorm layer


def test_a_method_without_a_translator_has_none(world: World, tmp_path: Path) -> None:
    _, left = _run(world, tmp_path, method__name="shot")
    assert left.translator(_no_images) is None
    network = next(network for _, network in left.networks())
    loader = Loader(example_images(world.task()), Preprocessing.of(left.experiment.data), torch.device("cpu"))
    assert predict_logits(network, loader).isfinite().all()
