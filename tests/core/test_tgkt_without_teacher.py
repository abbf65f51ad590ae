"""TGKT without its divergence is SOCKET with the weights of the transfer, whatever its translator does."""

from __future__ import annotations

import pytest

from socket_core.engine import adapt, make_bridge
from tests.core.builders import changed, experiment, segment_of, site_data, snapshot, tiny_network

WEIGHTS = {"ti": 2.0, "pl": 0.3, "im": 1.0, "bn": 0.1}


@pytest.mark.parametrize("kind", ["unet", "paper", "replicate"])
def test_a_teacher_of_weight_nothing_is_not_asked(kind: str) -> None:
    # Regression: with kl 0 the first refresh failed on a trust that nobody had measured.
    settings = {
        "name": "tgkt",
        "batch": 6,
        "transfer": {"kl": 0.0, **WEIGHTS},
        "translator": {"kind": kind, "width": 8},
    }
    job = experiment(method=settings, federation__rounds=2)
    network, source = tiny_network(), tiny_network()
    report = adapt(network, source, site_data(), job, segment_of(), bridge=make_bridge(job, source))
    assert "kl" not in report.losses
    plain, other = experiment(method={"name": "socket", "batch": 6, "weights": WEIGHTS}), tiny_network()
    adapt(other, tiny_network(), site_data(), plain, segment_of())
    assert changed(snapshot(other), snapshot(network)) == set()
