"""A disk on which nothing more can be written: no round is trained that is not charged, and nothing is lost."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from client.app import app
from protos.codec import TRAIN, decode
from protos.wire_pb2 import REASON_POLICY, Refusal
from socket_core.errors import PrivacyError
from tests.client.auditing import Asked, is_update
from tests.server.builders import World, message_to


@contextmanager
def no_room() -> Iterator[None]:
    """This process can make no file longer than a few bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (16, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_round_that_cannot_be_charged_is_refused_and_the_next_goes_on(world: World, tmp_path: Path) -> None:
    asked = Asked(world, tmp_path)
    asked.train(1)
    with no_room():
        with pytest.raises(PrivacyError, match=r"cannot be written(?s:.*)make room"):
            asked.train(2)
        answer = app(message_to(asked.request(2), TRAIN), asked.bench.context(0, 1)).content
    # The refusal itself could not be written down, so it left without the site's name.
    assert (decode(answer, Refusal).reason, decode(answer, Refusal).site) == (REASON_POLICY, "")
    assert is_update(asked.train(2))
    assert [charge.about["round"] for charge in asked.charges()] == [1, 2]
    assert asked.left().count("Update") == 2
    assert asked.failed() == []
