"""A short experiment with DP, and a budget that refuses nothing."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import Any

from socket_core.config import Experiment
from socket_core.privacy.accounting import Event
from tests.core.builders import experiment

PRIVATE: dict[str, Any] = {
    "privacy": {"sigma": 1.0, "sample_rate": 0.5, "expected_batch": 4, "clip": 0.05},
    "method__trust": "always",
}


@dataclass
class Purse:
    """A budget that writes down and refuses nothing."""

    charged: list[Event] = field(default_factory=list)

    def charge(self, event: Event, **about: str | float) -> None:
        self.charged.append(event)


def private(**values: Any) -> Experiment:
    """A short experiment with DP; ``values`` as for :func:`experiment`."""
    return experiment(**{**copy.deepcopy(PRIVATE), **values})
