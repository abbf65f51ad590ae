"""A site's own log says if its network has collapsed; a sample of its images is enough to tell."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from client import handlers
from socket_core.data.types import Images
from socket_core.evaluation import Scores
from tests.client.auditing import Asked
from tests.server.builders import World


@pytest.mark.parametrize(("round_", "entropy", "warned"), [(3, 0.1, True), (3, 0.9, False), (2, 0.1, False)])
def test_the_last_round_ends_with_a_look_at_some_images_from_first_to_last(
    world: World,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    round_: int,
    entropy: float,
    warned: bool,
) -> None:
    looked_at: list[Images] = []

    def spread_of(_network: Any, images: Images, *_rest: Any) -> Scores:
        looked_at.append(images)
        return Scores(float("nan"), float("nan"), 1, entropy)

    monkeypatch.setattr(handlers, "spread_of", spread_of)
    monkeypatch.setattr(handlers, "COLLAPSE_SAMPLE", 5)
    asked = Asked(world, tmp_path, private=False)
    with caplog.at_level(logging.WARNING, "socket_fl.client"):
        asked.train(round_)
    assert ("collapse: 1 of" in caplog.text) is warned
    assert len(looked_at) == (round_ == 3)
    every = asked.site.load(asked.bench.experiment).data.tr.pixels
    for images in looked_at:
        np.testing.assert_array_equal(images.pixels, every[[0, 2, 5, 8, 11]])
