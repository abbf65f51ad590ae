"""The residual of int8: kept by round, so that a round that is asked for again is the same to the bit."""

from __future__ import annotations

import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from client import handlers
from client.feedback import keep_residual, with_residual
from client.site import Site, open_site
from client.store import KEEP, SiteStore
from protos.codec import RELEASE, TRAIN, decode
from protos.wire_pb2 import RoundRequest, Update
from server.enrolment import _release_message
from server.job import request_for
from server.state import ServerState, init
from socket_core.packing import Packed, ends_of, pack
from socket_core.release import pack_release
from tests.server.builders import Bench, World, message_to

SPECS = (("a", (2,)), ("b", (3,)))


def request(round_: int, job: str = "job-1") -> RoundRequest:
    return RoundRequest(experiment=job, round=round_)


def rounded(store: SiteStore, round_: int, change: Any, stage: Any = "adapt") -> Packed:
    """What a site does in a round."""
    wanted = with_residual(store, request(round_), stage, change.copy())
    packed = pack(wanted, SPECS, "int8")
    keep_residual(store, request(round_), stage, wanted, packed)
    return packed


CHANGES = np.random.default_rng(0).normal(0, 1, (6, 5)).astype(np.float32)


def test_what_is_sent_and_owed_is_what_has_changed(tmp_path: Path) -> None:
    store = SiteStore(tmp_path)
    sent = sum(rounded(store, i + 1, change).floats().astype(np.float64) for i, change in enumerate(CHANGES))
    owed = store.load_residual("job-1", "adapt", 6)
    assert owed is not None
    assert 0 < float(np.abs(owed).max()) < 0.02
    np.testing.assert_allclose(sent + owed, CHANGES.sum(axis=0, dtype=np.float64), atol=1e-6)


def test_a_round_that_is_asked_for_again_begins_with_the_residual_that_it_had(tmp_path: Path) -> None:
    store = SiteStore(tmp_path)
    first = [rounded(store, i + 1, change) for i, change in enumerate(CHANGES[:4])]
    for index in (2, 3):  # the server goes on from its checkpoint of round 2
        again = rounded(store, index + 1, CHANGES[index])
        assert again.values.tobytes() == first[index].values.tobytes()
        assert again.scales.tobytes() == first[index].scales.tobytes()


def test_a_site_that_missed_rounds_still_owes_what_it_owed(tmp_path: Path) -> None:
    store = SiteStore(tmp_path)
    rounded(store, 1, CHANGES[0])
    owed = store.load_residual("job-1", "adapt", 1)
    np.testing.assert_array_equal(with_residual(store, request(5), "adapt", np.zeros(5, np.float32)), owed)


def test_stages_and_jobs_have_residuals_of_their_own(tmp_path: Path) -> None:
    store = SiteStore(tmp_path)
    rounded(store, 1, CHANGES[0], "bridge")
    zeros = np.zeros(5, np.float32)
    assert not with_residual(store, request(2), "adapt", zeros).any()
    assert not with_residual(store, request(2, "job-2"), "bridge", zeros).any()
    assert with_residual(store, request(2), "bridge", zeros).any()


def test_few_are_kept_and_a_damaged_one_counts_as_none(tmp_path: Path) -> None:
    store = SiteStore(tmp_path)
    for index, change in enumerate(CHANGES):
        rounded(store, index + 1, change)
    files = sorted((tmp_path / "jobs" / "job-1").iterdir())
    assert len(files) == KEEP
    files[-1].write_bytes(b"damaged")
    zeros = np.zeros(5, np.float32)
    assert not with_residual(store, request(7), "adapt", zeros).any()
    assert store.kept_rounds() == {}, "residuals are not taken for BatchNorm states"


def test_no_more_than_two_float32_copies_of_a_change_are_in_memory(tmp_path: Path) -> None:
    """The change itself, which is there before, and the earlier residual while it is added."""
    store, tensors, size = SiteStore(tmp_path), 32, 1 << 16
    specs = tuple((f"t{i}", (size,)) for i in range(tensors))
    change = np.random.default_rng(0).standard_normal(tensors * size, dtype=np.float32)
    store.save_residual("job-1", "adapt", 1, np.ones_like(change))
    tracemalloc.start()
    try:
        held = tracemalloc.get_traced_memory()[0]
        wanted = with_residual(store, request(2), "adapt", change)
        adding = tracemalloc.get_traced_memory()[1] - held
        tracemalloc.reset_peak()
        packed = pack(wanted, specs, "int8")
        keep_residual(store, request(2), "adapt", wanted, packed)
        packing = tracemalloc.get_traced_memory()[1] - held
    finally:
        tracemalloc.stop()
    assert adding < 1.1 * change.nbytes
    assert packing < (0.25 + 3 / tensors) * change.nbytes
    owed = store.load_residual("job-1", "adapt", 2)
    assert owed is not None
    assert owed.tobytes() == change.tobytes()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float8_e4m3fn, torch.float64])
def test_a_residual_of_another_type_counts_as_none(tmp_path: Path, dtype: torch.dtype) -> None:
    store = SiteStore(tmp_path)
    rounded(store, 1, CHANGES[0])
    (path,) = (tmp_path / "jobs" / "job-1").iterdir()
    save_file({"residual": torch.zeros(5).to(dtype)}, path)
    assert store.load_residual("job-1", "adapt", 1) is None


def _site(world: World, folder: Path) -> tuple[Bench, Site]:
    changes: dict[str, Any] = {"federation__update_dtype": "int8", "federation__sites": 1, "federation__quorum": 1}
    bench = Bench(world, folder, sites=1, method__name="shot", federation__steps=1, **changes)
    site = open_site(bench.context(0, 1))
    message = message_to(_release_message(pack_release(bench.release_folder)), RELEASE)
    handlers.receive_release(site, message.content)
    return bench, site


def _train(bench: Bench, site: Site, round_: int) -> tuple[Update, Packed]:
    start = init(bench.release.network(), bench.experiment, "job-1")
    asked = request_for(bench.job(), ServerState("job-1", round_, start.parameters))
    records = handlers.train_round(site, message_to(asked, TRAIN).content)
    update = decode(records, Update)
    values: Any = records.array_records["arrays"]["delta"].numpy()
    specs = [(spec.key, tuple(spec.shape)) for spec in update.tensors]
    return update, Packed(values, np.array(update.scales, np.float32), ends_of(specs))


def test_a_site_sends_levels_and_scales_and_the_same_again(world: World, tmp_path: Path) -> None:
    bench, site = _site(world, tmp_path)
    update, delta = _train(bench, site, 1)
    assert {spec.dtype for spec in update.tensors} == {"int8"}
    assert len(update.scales) == len(update.tensors)
    assert delta.values.dtype == np.int8
    kept = site.store.load_residual("job-1", "adapt", 1)
    assert kept is not None
    second = _train(bench, site, 2)[1]
    for round_, earlier in ((1, delta), (2, second)):
        again = _train(bench, site, round_)[1]
        assert again.values.tobytes() == earlier.values.tobytes()
        assert again.scales.tobytes() == earlier.scales.tobytes()
    changed = delta.floats() + kept
    half = 0.5 * np.repeat(delta.scales, np.diff(delta.ends, prepend=0))
    assert (np.abs(changed - delta.floats()) <= half * (1 + 1e-5)).all()
    assert pytest.approx(0, abs=1e-12) != float(np.abs(changed).max())
