"""Kept results belong to the very settings, images and source model that they were made from."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from client import bridging, handlers
from server.cells import Cell, basis_of, claim_folder, fingerprint, row_of_federation, visits_per_step
from server.journal import Journal
from socket_core.data.catalogue import Share, split_task
from socket_core.data.types import Images
from socket_core.engine import AdaptReport, adapt
from tests.core import builders as core
from tests.server.builders import Bench, World, experiment_with


def test_the_basis_changes_with_one_pixel_one_label_and_the_release(world: World) -> None:
    task = world.task()
    base = basis_of(task, "release")
    assert basis_of(world.task(), "release") == base
    pixels = task.ti.target.pixels.astype(np.uint16)
    pixels[0, 0, 0] += 1
    pairs = dataclasses.replace(task.ti, target=Images(pixels, task.ti.target.full_scale))
    labels = np.array(task.target_test.labels)
    labels[0] = (labels[0] + 1) % 8
    held_out = dataclasses.replace(task.target_test, labels=labels)
    others = {
        basis_of(dataclasses.replace(task, ti=pairs), "release"),
        basis_of(dataclasses.replace(task, target_test=held_out), "release"),
        basis_of(task, "another"),
    }
    assert len(others | {base}) == 4


def test_a_cell_is_told_by_what_decides_it_and_not_by_how_long_to_wait() -> None:
    cell = Cell(experiment_with(), "local")
    same = Cell(experiment_with(federation__deadline_seconds=1.0, federation__quorum=1), "local")
    assert fingerprint(cell, "b") == fingerprint(same, "b")
    for other in (Cell(experiment_with(method__lr=0.5), "local"), Cell(experiment_with(), "centralised")):
        assert fingerprint(other, "b") != fingerprint(cell, "b")
    assert fingerprint(cell, "c") != fingerprint(cell, "b")


def test_a_folder_of_another_basis_is_emptied_and_ones_own_is_kept(tmp_path: Path) -> None:
    folder = tmp_path / "job"
    claim_folder(folder, "one")
    (folder / "rounds.jsonl").write_text("{}")
    claim_folder(folder, "one")
    assert (folder / "rounds.jsonl").exists()
    claim_folder(folder, "two")
    assert [path.name for path in folder.iterdir()] == ["basis"]


@pytest.mark.parametrize(("method", "expected"), [("shot", 4), ("socket", 8), ("adabn", 4)])
def test_images_seen_by_a_step_count_pairs_only_where_they_are_used(world: World, method: str, expected: int) -> None:
    experiment = experiment_with(method__name=method)
    share = split_task(world.task(), experiment, 3)[0]
    assert visits_per_step(experiment, share) == expected


@pytest.mark.parametrize(("trust", "expected"), [("agreement", 12 + 70), ("always", 12 + 80)])
def test_pairs_kept_out_of_training_are_not_counted(trust: str, expected: int) -> None:
    experiment = core.experiment(method__name="socket", method__trust=trust, method__batch=90)
    share = Share(core.site_data(12, 80), core.LABELS)
    assert visits_per_step(experiment, share) == expected
    report = adapt(core.tiny_network(), core.tiny_network(), share.data, experiment, core.segment_of(steps=1))
    assert report.visits == expected


@pytest.mark.parametrize("exchange", ["shared", "local"])
def test_rounds_of_a_translator_count_wherever_it_is_trained(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, exchange: str
) -> None:
    done: list[AdaptReport] = []

    def counted(*args: Any, **rest: Any) -> AdaptReport:
        done.append(adapt(*args, **rest))
        return done[-1]

    for module in (handlers, bridging):
        monkeypatch.setattr(module, "adapt", counted)
    translator = {"exchange": exchange, "rounds": 2, "width": 8}
    changes: dict[str, Any] = {"method__name": "tgkt", "method__translator": translator, "federation__steps": 1}
    bench = Bench(world, tmp_path, federation__rounds=3, **changes)
    bench.run()
    journal = Journal(bench.job_home / "rounds.jsonl")
    shares = split_task(world.task(), bench.experiment, 3)
    row = row_of_federation(Cell(bench.experiment, "federated"), journal, 0.125, shares)
    assert len(journal.read()) == (3 if exchange == "shared" else 1)
    # Three sites, two rounds for the translator and one for the network, one step each.
    assert row.steps == sum(report.steps for report in done) == 3 * (2 + 1)
    assert row.visits == sum(report.visits for report in done) == 9 * (4 + 4)
    # The network is the source model until the translator is there.
    assert row.curve == (0.125, 0.125, 0.125, row.accuracy)
    assert row.rounds == 3
