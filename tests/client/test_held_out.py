"""Labelled images that a deployed site has put aside: tested on, never trained on, and counts leave by its policy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from flwr.app import RecordDict

from client import handlers
from client.images import load_held_out
from client.journal import Journal
from client.site import Site, open_deployed
from client.site_file import read_site_file
from protos.codec import EVALUATE, RELEASE, decode
from protos.wire_pb2 import Evaluation
from server.enrolment import _release_message
from server.job import request_for
from server.state import init
from socket_core.errors import DataError
from socket_core.release import pack_release
from tests.client.builders import Deployment, write_images
from tests.server.builders import Bench, World, message_to

PROTECTED = {"clip": 1.0, "sigma": 2.0, "delta": 1e-5}


class Labelling:
    """A deployed site with three labelled images of each of two classes, and one evaluation of it."""

    def __init__(self, world: World, folder: Path, *, allowed: bool, protected: bool = False) -> None:
        more: dict[str, Any] = {"federation__weighting": "equal", "site_privacy": PROTECTED} if protected else {}
        self.bench = Bench(world, folder / "owner", federation__bn_policy="source", **more)
        self.classes = self.bench.release.info.classes
        test = folder / "test"
        for index, name in enumerate(self.classes[:2]):
            write_images(test / name, 3, "depth", seed=index)
        policy = {"held_out_counts": allowed, "bn_policies": ["source"]}
        key = world.home / "keys" / "owner.pub.pem"
        self.path = Deployment(folder / "site", key, held_out=str(test), policy=policy).path
        self.site: Site = open_deployed(self.path)
        handlers.receive_release(
            self.site, message_to(_release_message(pack_release(self.bench.release_folder)), RELEASE).content
        )

    def evaluation(self) -> Evaluation:
        start = init(self.bench.release.network(), self.bench.experiment, "job-1")
        state = type(start)(start.experiment, 1, start.parameters)
        request = request_for(self.bench.job(), state, to_train=False)
        records: RecordDict = handlers.evaluate_round(self.site, message_to(request, EVALUATE).content)
        return decode(records, Evaluation)


def test_counts_of_each_class_leave_where_the_policy_allows_it(world: World, tmp_path: Path) -> None:
    tested = Labelling(world, tmp_path, allowed=True)
    found, size = tested.evaluation(), len(tested.classes)
    rows = [sum(found.held_out[i * size : (i + 1) * size]) for i in range(size)]
    assert rows == [3, 3, *[0] * (size - 2)]
    assert not found.transductive
    assert Journal(tested.site.journal_file).read()[-1]["kind"] == "Evaluation"


@pytest.mark.parametrize("protected", [False, True])
def test_none_leave_where_it_does_not_or_where_the_whole_site_is_protected(
    world: World, tmp_path: Path, protected: bool
) -> None:
    found = Labelling(world, tmp_path, allowed=protected, protected=protected).evaluation()
    assert not found.held_out
    assert not found.transductive


def test_labels_are_positions_in_the_releases_list_of_classes(world: World, tmp_path: Path) -> None:
    tested = Labelling(world, tmp_path, allowed=True)
    swapped = (tested.classes[1], *tested.classes[2:], tested.classes[0])
    found = load_held_out(read_site_file(tested.path), tested.bench.experiment, swapped)
    assert found is not None
    assert sorted(found.labels.tolist()) == [0] * 3 + [len(swapped) - 1] * 3
    assert len(tested.site.load(tested.bench.experiment).data.tr) == 8  # none of them is trained on


def test_a_folder_that_is_no_class_is_named(world: World, tmp_path: Path) -> None:
    tested = Labelling(world, tmp_path, allowed=True)
    with pytest.raises(DataError, match="is no class of the task"):
        load_held_out(read_site_file(tested.path), tested.bench.experiment, ("other",))


def test_without_such_a_folder_there_are_none(world: World, tmp_path: Path) -> None:
    site = Deployment(tmp_path / "site", world.home / "keys" / "owner.pub.pem").path
    bench = Bench(world, tmp_path / "owner")
    assert open_deployed(site).held_out(bench.experiment, bench.release.info.classes) is None
