"""A site's own translator: trained once, kept, and the same again if it has to be trained again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from client import bridging
from client.bridging import own_bridge, sent_bridge
from client.store import SiteStore
from socket_core.config import Experiment
from socket_core.data.types import SiteData
from socket_core.engine import Segment, adapt, make_bridge
from socket_core.exchange import bridge_specs, flatten, parameters_of
from socket_core.translators import Bridge
from tests.core.builders import changed, experiment, site_data, snapshot, tiny_network


def _job(**translator: Any) -> Experiment:
    section = {"width": 8, "exchange": "local", "rounds": 2, **translator}
    return experiment(method__name="tgkt", method__translator=section, federation__rounds=3)


def _own(job: Experiment, home: Path, *, site: str = "north", name: str = "job") -> Bridge:
    bridge = own_bridge(job, name, site, SiteStore(home), site_data, tiny_network(), tiny_network())
    assert bridge is not None
    return bridge


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[Segment]:
    """The segments that are trained from here on."""
    seen: list[Segment] = []

    def spy(*args: Any, **kwargs: Any) -> Any:
        seen.append(args[4])
        return adapt(*args, **kwargs)

    monkeypatch.setattr(bridging, "adapt", spy)
    return seen


@pytest.mark.parametrize("kind", ["unet", "paper"])
def test_it_is_trained_with_all_the_steps_of_stage_one(tmp_path: Path, trained: list[Segment], kind: str) -> None:
    job, by_hand = _job(kind=kind), make_bridge(_job(kind=kind), tiny_network())
    assert by_hand is not None
    own = _own(job, tmp_path)
    segments = [Segment("north", r, 3, 2, fresh=False, stage="bridge") for r in (1, 2)]
    assert trained == segments
    for segment in segments:
        adapt(tiny_network(), tiny_network(), site_data(), job, segment, bridge=by_hand)
    assert changed(snapshot(by_hand), snapshot(own)) == set()


def test_it_is_trained_once_and_survives_a_restart(tmp_path: Path, trained: list[Segment]) -> None:
    first = snapshot(_own(_job(), tmp_path))
    count = len(trained)

    def no_data() -> SiteData:
        raise AssertionError("no image is needed")

    again = own_bridge(_job(), "job", "north", SiteStore(tmp_path), no_data, tiny_network(), tiny_network())
    assert again is not None
    assert changed(first, snapshot(again)) == set()
    assert len(trained) == count == 2
    _own(_job(), tmp_path, name="job-2")
    assert len(trained) == 4  # another job begins anew


def test_one_that_cannot_be_read_is_trained_again_to_the_same_bits(tmp_path: Path, trained: list[Segment]) -> None:
    first = snapshot(_own(_job(), tmp_path))
    path = tmp_path / "jobs" / "job" / "translator.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    assert changed(first, snapshot(_own(_job(), tmp_path))) == set()
    assert len(trained) == 4


def test_sites_have_translators_of_their_own(tmp_path: Path) -> None:
    one, two = (snapshot(_own(_job(), tmp_path / site, site=site)) for site in ("north", "south"))
    assert changed(one, two)


def test_the_network_stays_as_it_is(tmp_path: Path) -> None:
    network, source = tiny_network(), tiny_network(1)
    before = snapshot(network), snapshot(source)
    own_bridge(_job(), "job", "north", SiteStore(tmp_path), site_data, network, source)
    assert changed(before[0], snapshot(network)) == set()
    assert changed(before[1], snapshot(source)) == set()


def test_where_there_is_nothing_to_learn_nothing_is_kept(tmp_path: Path, trained: list[Segment]) -> None:
    _own(_job(kind="replicate"), tmp_path)
    none = own_bridge(experiment(), "job", "north", SiteStore(tmp_path), site_data, tiny_network(), tiny_network())
    assert none is None
    assert trained == []
    assert list(tmp_path.iterdir()) == []


def test_a_translator_that_was_sent_has_the_parameters_sent() -> None:
    job = _job(exchange="shared")
    start = make_bridge(job, tiny_network())
    assert start is not None
    specs = bridge_specs(start)
    flat = flatten(parameters_of(start), specs) + np.float32(1)
    sent = sent_bridge(job, tiny_network(), flat)
    assert sent is not None
    np.testing.assert_array_equal(flatten(parameters_of(sent), specs), flat)
    assert sent_bridge(experiment(), tiny_network(), flat) is None


@pytest.mark.parametrize("kind", ["unet", "paper"])
def test_running_statistics_of_a_translator_never_travel(kind: str) -> None:
    bridge = make_bridge(_job(kind=kind), tiny_network())
    assert bridge is not None
    keys = {key for key, _ in bridge_specs(bridge)}
    buffers: dict[str, Tensor] = dict(bridge.named_buffers())
    assert bool(buffers) == (kind == "paper")
    assert keys == bridge.state_dict().keys() - buffers.keys()
    assert all(torch.is_floating_point(parameters_of(bridge)[key]) for key in keys)
