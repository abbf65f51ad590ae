"""Whole-site protection in federations: plain training and noise of the right size, whoever adds it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import chi2

from client import site_level as at_site
from client.app import app
from protos.codec import TRAIN, decode
from protos.wire_pb2 import Update
from server import protection
from server.cells import Cell, row_of_federation
from server.journal import Journal
from server.state import ServerState
from socket_core.data.catalogue import load_task, split_task
from socket_core.errors import FederationError
from socket_core.privacy.accounting import SITE, Event, epsilon
from socket_core.privacy.ledger import Ledger
from tests.server.builders import (
    BAD_NODE,
    Bench,
    ChangingGrid,
    RecordingGrid,
    World,
    edited,
    short_bench,
    silent,
)

SIGMA, CLIP, SITES = 2.0, 1000.0, 3
PLAIN: dict[str, Any] = {"federation__weighting": "equal", "federation__quorum": SITES, "federation__rounds": 1}
TGKT: dict[str, Any] = {
    "method__name": "tgkt",
    "method__trust": "always",
    "method__translator": {"width": 8},
    "federation__rounds": 3,
}


def protected(noise: str = "server", **asked: Any) -> dict[str, Any]:
    """Keys that protect a site; a clip above all changes unless ``asked`` says otherwise."""
    return PLAIN | {"site_privacy": {"clip": CLIP, "sigma": SIGMA, "noise": noise} | asked}


def without_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything but the noise."""

    def zeros(length: int, *_: object) -> NDArray[np.float64]:
        return np.zeros(length)

    monkeypatch.setattr(protection, "noise_share", zeros)
    monkeypatch.setattr(at_site, "noise_share", zeros)


def charges(ledger: Path) -> list[Event]:
    return [charge.event for charge in Ledger(ledger, create=False).charges()]


@pytest.fixture(scope="module")
def plain(world: World, tmp_path_factory: pytest.TempPathFactory) -> ServerState:
    """The state after one round without protection."""
    return short_bench(world, tmp_path_factory.mktemp("plain"), **PLAIN).run()


@pytest.mark.parametrize("noise", ["server", "sites"])
def test_the_round_is_the_plain_one_with_noise_of_the_right_size(
    world: World, tmp_path: Path, plain: ServerState, noise: str
) -> None:
    state = short_bench(world, tmp_path, **protected(noise)).run()
    added = (state.parameters.astype(np.float64) - plain.parameters) / (SIGMA * CLIP / SITES)
    ratio = float(np.square(added).sum())  # chi-square; each side fails once in 10^9 runs
    assert chi2.ppf(1e-9, len(added)) < ratio < chi2.isf(1e-9, len(added))
    assert abs(float(added.mean())) < 6 / np.sqrt(len(added))


@pytest.mark.parametrize("noise", ["server", "sites"])
def test_without_the_noise_it_is_the_plain_round(
    world: World, tmp_path: Path, plain: ServerState, noise: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_noise(monkeypatch)
    state = short_bench(world, tmp_path, **protected(noise)).run()
    np.testing.assert_allclose(state.parameters, plain.parameters, rtol=0, atol=1e-6)


def test_every_side_charges_what_it_sees_and_the_row_says_what_was_charged(world: World, tmp_path: Path) -> None:
    bench = short_bench(world, tmp_path, **protected("sites") | {"federation__rounds": 2})
    bench.run()
    assert charges(bench.job_home / "site-level.sqlite") == [Event(SIGMA, 1.0, 1)] * 2
    own = sorted((bench.home / "sites").glob("*/site-level.sqlite"))
    assert len(own) == SITES
    assert all(charges(ledger) == [Event(SIGMA / np.sqrt(SITES), 1.0, 1)] * 2 for ledger in own)
    facts = [record["site_privacy"] for record in bench.records()]
    assert facts == [{"sigma": SIGMA, "noise": "sites", "charged": n} for n in (1, 2)]
    shares = split_task(load_task(bench.experiment.data, cache=bench.cache), bench.experiment, SITES)
    journal = Journal(bench.job_home / "rounds.jsonl")
    row = row_of_federation(Cell(bench.experiment, "federated"), journal, 0.125, shares)
    assert row.site_epsilon == epsilon([Event(SIGMA, 1.0, 2)], 1e-5, SITE).claim
    assert (row.epsilon, row.epsilon_unit) == (None, "none")


def test_a_change_leaves_clipped_and_without_the_number_of_images(world: World, tmp_path: Path) -> None:
    bench = short_bench(world, tmp_path, **protected(clip=1e-3))
    grid = RecordingGrid(app, bench.contexts())
    bench.run(grid)
    updates = [reply.content for reply in grid.received if reply.metadata.message_type == TRAIN]
    assert len(updates) == SITES
    for records in updates:
        assert np.linalg.norm(records.array_records["arrays"]["delta"].numpy()) == pytest.approx(1e-3, rel=1e-5)
        assert decode(records, Update).examples == 1


def test_the_server_clips_what_a_site_sends_unclipped(
    world: World, tmp_path: Path, plain: ServerState, monkeypatch: pytest.MonkeyPatch
) -> None:
    def shout(_update: Update, arrays: dict[str, Any]) -> None:
        arrays["delta"] = np.full_like(arrays["delta"], 1e6)

    without_noise(monkeypatch)
    changes = protected() | {"federation__max_relative_update": 1e12}
    quiet = short_bench(world, tmp_path / "quiet", **changes)
    loud = short_bench(world, tmp_path / "loud", **changes)
    found = loud.run(ChangingGrid(loud.contexts(), {BAD_NODE: edited(shout)}))
    moved = float(np.linalg.norm(found.parameters.astype(np.float64) - quiet.run().parameters))
    assert 0.9 * CLIP / SITES < moved < 1.1 * CLIP / SITES


def test_who_is_missing_takes_no_noise_away_and_leaves_the_divisor(
    world: World, tmp_path: Path, plain: ServerState, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_noise(monkeypatch)
    changes = protected() | {"federation__quorum": 2, "federation__deadline_seconds": 1.0}
    whole, fewer = short_bench(world, tmp_path / "a", **changes), short_bench(world, tmp_path / "b", **changes)
    grid = RecordingGrid(app, whole.contexts())
    whole.run(grid)
    deltas = {
        decode(r.content, Update).site: r.content.array_records["arrays"]["delta"].numpy()
        for r in grid.received
        if r.metadata.message_type == TRAIN
    }
    found = fewer.run(ChangingGrid(fewer.contexts(), {BAD_NODE: silent}))
    before = plain.parameters.astype(np.float64) - sum(deltas.values()) / SITES
    expected = before + (deltas["site-00"] + deltas["site-02"]) / SITES
    np.testing.assert_allclose(found.parameters, expected, rtol=0, atol=1e-5)


def test_a_missing_share_of_noise_refuses_the_round_before_it_is_charged(world: World, tmp_path: Path) -> None:
    bench = short_bench(world, tmp_path, **protected("sites") | {"federation__deadline_seconds": 1.0})
    with pytest.raises(FederationError, match="quorum is 3"):
        bench.run(ChangingGrid(bench.contexts(), {BAD_NODE: silent}))
    assert charges(bench.job_home / "site-level.sqlite") == []


def test_a_share_far_above_the_noise_is_left_out_by_itself(world: World, tmp_path: Path) -> None:
    def shout(_update: Update, arrays: dict[str, Any]) -> None:
        arrays["delta"] = arrays["delta"] * np.float32(1.5)

    bench = short_bench(world, tmp_path, **protected("sites"))
    with pytest.raises(FederationError, match="site-01: too_large"):
        bench.run(ChangingGrid(bench.contexts(), {BAD_NODE: edited(shout)}))


def test_rounds_of_a_translator_are_clipped_noised_and_charged_too(world: World, tmp_path: Path) -> None:
    asked = {"clip": 1e-3, "sigma": SIGMA}
    bench = Bench(
        world, tmp_path, **PLAIN | TGKT | {"site_privacy": asked, "federation__steps": 1, "data__scenes__ti": 12}
    )
    grid, bridges = RecordingGrid(app, bench.contexts()), list[Any]()
    bench.run(grid)
    stages = [record["stage"] for record in bench.records()]
    assert stages == ["bridge", "adapt", "adapt"]
    assert charges(bench.job_home / "site-level.sqlite") == [Event(SIGMA, 1.0, 1)] * 3
    for message in grid.sent:
        arrays = message.content.array_records.get("arrays")
        if message.metadata.message_type == TRAIN and arrays is not None:
            bridges.append(arrays["bridge"].numpy().astype(np.float64))
    # The mean of the changes is next to nothing in this: of all values together, one clip at most.
    added = (bridges[-1] - bridges[0]) / (SIGMA * 1e-3 / SITES)
    assert float(np.square(added).mean()) == pytest.approx(1.0, abs=0.1)
