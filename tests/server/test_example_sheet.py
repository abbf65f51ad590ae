"""The picture shows the examples' own views, and belongs to one results file."""

from __future__ import annotations

import dataclasses
import io
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from client.app import app
from server import rounds
from server.app import job_folder
from server.example_sheet import read_strips, rgb_partners, write_sheet
from server.examples import chosen
from server.final_networks import ended
from server.image_colours import as_rgb, depth_colours
from server.job import Job
from server.local_grid import LocalGrid
from server.results import ExampleFacts
from server.sources import source_files
from socket_core.data.loader import Loader, Preprocessing
from socket_core.data.scenes import drawn, render
from socket_core.data.types import Images
from tests.server.builders import Bench, World, experiment_with


def _tiles(strip: bytes, size: int = 48) -> list[np.ndarray]:
    pixels = np.asarray(Image.open(io.BytesIO(strip)))
    return [pixels[:, i : i + size] for i in range(0, pixels.shape[1], size)]


def test_tiles_are_the_view_in_rgb_the_target_and_its_translation(world: World, tmp_path: Path) -> None:
    translator = {"kind": "unet", "width": 8}
    bench = Bench(world, tmp_path, federation__steps=1, method__name="tgkt", method__translator=translator)
    home = job_folder(bench.home, bench.experiment)
    rounds.run(LocalGrid(app, bench.contexts()), Job(bench.experiment, bench.release, bench.release_folder, home))
    task, data = world.task(), bench.experiment.data
    path = tmp_path / "examples.png"
    shot = experiment_with(method__name="shot")
    found = write_sheet(path, bench.home, data, task, [("shot", shot), ("mine", bench.experiment)])
    facts = ExampleFacts.model_validate(found)
    assert facts.columns == ["RGB", "depth", "translated"]
    assert facts.translator == "mine, federated, seed 0"
    assert facts.labels == list(range(8)) == task.target_test.labels[facts.indices].tolist()

    strips = [_tiles(strip) for strip in read_strips(path, facts)]
    assert [len(tiles) for tiles in strips] == [3] * 8
    labels, stream = drawn("target_test", data.scenes.target_test, data.seed)
    views = render(labels, size=48, seed=stream)
    left = ended(bench.home, bench.experiment, source_files(bench.home, bench.experiment))
    assert left is not None
    bridge = left.translator(lambda: task.target_train.images)
    assert bridge is not None
    x = Loader(task.target_test.images, Preprocessing.of(data), torch.device("cpu")).batch(np.array(facts.indices))
    with torch.no_grad():
        made = (bridge(x) * 0.5 + 0.5).clamp(0, 1).numpy().transpose(0, 2, 3, 1) * 255
    for e, i in enumerate(facts.indices):
        assert np.array_equal(strips[e][0], views.rgb[i])
        assert np.array_equal(strips[e][1], depth_colours(views.depth[i]))
        assert np.abs(strips[e][2] - made[e]).max() <= 1

    for checkpoint in home.glob("checkpoints/round-*"):
        checkpoint.write_bytes(b"damaged")
    again = write_sheet(path, bench.home, data, task, [("mine", bench.experiment)])
    assert (again["columns"], again["translator"]) == (["RGB", "depth"], "")


def test_without_a_federation_nothing_is_translated_and_another_picture_is_not_taken(
    world: World, tmp_path: Path
) -> None:
    data, path = experiment_with().data, tmp_path / "examples.png"
    facts = ExampleFacts.model_validate(write_sheet(path, tmp_path, data, world.task(), [("s", experiment_with())]))
    assert (facts.columns, facts.translator) == (["RGB", "depth"], "")
    assert len(read_strips(path, facts)) == 8
    assert read_strips(tmp_path / "none.png", facts) == []
    path.write_bytes(path.read_bytes() + b"\0")
    assert read_strips(path, facts) == []


def test_partners_of_files_are_those_of_the_same_view_or_none(world: World) -> None:
    data, task = experiment_with().data, world.task()
    index = chosen(task.target_test.labels, 8)
    files = data.model_copy(update={"kind": "folder"})
    assert rgb_partners(files, task, index) is None  # nothing says which belong together
    order = np.arange(8)[::-1].copy()
    found = rgb_partners(files, dataclasses.replace(task, partners=order), index)
    assert found is not None
    assert all(
        np.array_equal(tile, task.source_test.images.pixels[order[i]]) for tile, i in zip(found, index, strict=True)
    )
    order[index[0]] = -1
    assert rgb_partners(files, dataclasses.replace(task, partners=order), index) is None
    moved = dataclasses.replace(task.target_test, images=task.target_test.images.take(order))
    assert rgb_partners(data, dataclasses.replace(task, target_test=moved), index) is None  # other than what renders


def test_depth_is_coloured_by_nearness_and_black_where_unknown() -> None:
    depth = np.array([[0, 1000], [2000, 4000]], dtype=np.uint16)
    found = depth_colours(depth)
    assert found[0, 0].tolist() == [0, 0, 0]
    lightness = found.astype(int) @ np.array([2126, 7152, 722])
    assert lightness[0, 1] > lightness[1, 0] > lightness[1, 1] > 0  # near is light
    assert depth_colours(np.zeros((2, 2), dtype=np.uint16)).max() == 0
    grey = Images(np.array([[[7]]], dtype=np.uint8), 255.0)
    assert as_rgb(grey, 0).tolist() == [[[7, 7, 7]]]
