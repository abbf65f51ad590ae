"""What requests and results say of where files lie on the owner's disk: nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from protos.codec import decode
from protos.wire_pb2 import RoundRequest
from server.comparison_report import settings_of
from server.job import request_for, travelling
from server.state import init
from socket_core.combined import combine
from tests.server.builders import Bench, World, experiment_with

FOLDERS: dict[str, Any] = {
    "data__root": "/owner/images",
    "data__ti_from": "folder",
    "data__ti_root": "/owner/pairs",
    "network__weights": "/owner/net.pth",
}


def test_paths_are_blanked_and_all_else_travels() -> None:
    experiment = experiment_with(**FOLDERS)
    sent = travelling(experiment)
    assert (sent.data.root, sent.data.ti_root, sent.network.weights) == ("", "", "")
    back = sent.model_copy(
        update={
            "data": sent.data.model_copy(update={"root": "/owner/images", "ti_root": "/owner/pairs"}),
            "network": sent.network.model_copy(update={"weights": "/owner/net.pth"}),
        }
    )
    assert back == experiment


def test_no_path_is_in_a_request(world: World, tmp_path: Path) -> None:
    bench = Bench(world, tmp_path, **FOLDERS)
    job = bench.job()
    for to_train in (True, False):
        state = init(combine(job.releases), job.experiment, "job")
        request = decode(request_for(job, state, to_train=to_train), RoundRequest)
        assert "/owner" not in request.experiment_json


def test_no_path_is_in_the_results_that_are_published() -> None:
    settings = settings_of(experiment_with(**FOLDERS))
    assert "/owner" not in json.dumps(settings)
    assert (settings["data"]["ti_from"], settings["network"]["backbone"]) == ("folder", "tiny")
