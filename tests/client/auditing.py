"""A site with DP in process, asked for one round at a time."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
from flwr.app import RecordDict

from client import handlers
from client.journal import Journal
from client.site import Site, open_site
from client.verification import Check, verify
from protos.codec import RELEASE, TRAIN, decode, encode
from protos.wire_pb2 import EnrolRequest, RoundRequest
from server.enrolment import _release_message
from server.job import request_for
from server.state import ServerState, init
from socket_core.privacy.ledger import Charge, Ledger
from socket_core.release import pack_release
from tests.server.builders import Bench, World, message_to

PRIVATE: dict[str, Any] = {
    "method__name": "socket",
    "method__trust": "always",
    "privacy": {"sigma": 2.0, "sample_rate": 0.5, "expected_batch": 4},
    "federation__rounds": 3,
    "federation__steps": 1,
    "data__scenes__target_train": 12,
    "data__scenes__ti": 6,
}


class Asked:
    """One site that a server asks for rounds of one job.

    Args:
        world: Where the release comes from.
        folder: An empty folder.
        private: Whether the job asks for DP.
    """

    def __init__(self, world: World, folder: Path, *, private: bool = True) -> None:
        changes = copy.deepcopy(PRIVATE)
        if not private:
            del changes["privacy"]
        self.bench = Bench(world, folder, sites=1, **changes, federation__sites=1, federation__quorum=1)
        self.site: Site = open_site(self.bench.context(0, 1))
        message = message_to(_release_message(pack_release(self.bench.release_folder)), RELEASE)
        handlers.receive_release(self.site, message.content)

    def request(self, round_: int = 1, **experiment: Any) -> RecordDict:
        """A request for a round; keywords change the experiment that it carries."""
        start = init(self.bench.release.network(), self.bench.experiment, "job-1")
        records = request_for(self.bench.job(), ServerState(start.experiment, round_, start.parameters))
        request = decode(records, RoundRequest)
        if experiment:
            changed = self.bench.experiment.model_copy(update=experiment)
            request.experiment_json = changed.model_dump_json()
        records["wire"] = encode(request).config_records["wire"]
        return message_to(records, TRAIN).content

    def train(self, round_: int = 1, **experiment: Any) -> RecordDict:
        """The site's update."""
        return handlers.train_round(self.site, self.request(round_, **experiment))

    def enrol(self) -> None:
        """One more message that leaves."""
        handlers.enrol(self.site, encode(EnrolRequest(release_digest=self.bench.release.info.digest)))

    def charges(self) -> list[Charge]:
        """What the ledger says."""
        return Ledger(self.site.ledger_file, create=False).charges()

    def left(self) -> list[str]:
        """Kinds of the messages that left."""
        return [entry["kind"] for entry in Journal(self.site.journal_file, create=False).read()]

    def check(self, name: str) -> Check:
        """One check of the site's books."""
        return next(check for check in verify(self.site).checks if check.name == name)

    def failed(self) -> list[str]:
        """Names of the checks that fail."""
        return [check.name for check in verify(self.site).failed]


def remove(path: Path) -> None:
    """All three files of a chain."""
    for end in (".sqlite", ".key", ".head"):
        path.with_suffix(end).unlink()


def is_update(records: RecordDict) -> bool:
    """Whether it holds finite numbers under ``delta``."""
    return bool(np.isfinite(records.array_records["arrays"]["delta"].numpy()).all())
