"""What a step must not do, whatever the machine: loop over images, or make the host wait for the device."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch

from socket_core.data.loader import Loader
from socket_core.engine import Segment, adapt
from socket_core.methods.base import TiBatch, TrBatch
from socket_core.methods.socket import Socket
from tests.core.builders import (
    CPU,
    PREP,
    adapt_tiny,
    configured,
    depth_images,
    experiment,
    segment_of,
    site_data,
    tiny_network,
    tr_loader,
)
from tests.core.ops import Operations


def _operations(method: Socket, batch: int, name: str) -> Counter[str]:
    """All operations of one step with ``batch`` images of each kind: data, losses, gradients, update."""
    loader, index = Loader(depth_images(12), PREP, CPU), np.arange(batch)
    optimiser = method.optimiser()
    features = torch.zeros(batch, 8)
    optimiser.zero_grad()
    with Operations() as seen:
        draw = loader.draw(np.random.default_rng(0), batch)
        x = loader.batch(index, draw)
        terms = method.step(TrBatch(x, torch.as_tensor(index)), TiBatch(loader.batch(index), features))
        torch.stack(list(terms.values())).sum().backward()
        optimiser.step(1.0)
    assert not seen.waits, name
    return Counter(seen.names)


@pytest.mark.parametrize("name", ["shot", "socket", "tgkt"])
def test_operations_of_a_step_do_not_depend_on_the_number_of_images(name: str) -> None:
    method, _, _ = configured(experiment(method__name=name).method)
    assert isinstance(method, Socket) or name == "shot"
    method.begin(tr_loader())
    method.refresh(tr_loader())
    few, many = (_operations(method, batch, name) for batch in (3, 9))  # type: ignore[arg-type]  # SHOT's step fits too
    assert few == many
    assert sum(few.values()) > 50


def test_the_guard_sees_what_it_is_to_see() -> None:
    x = torch.ones(3, requires_grad=True)
    with Operations() as seen:
        float(x.sum().detach())
        x[x > 0]
    assert seen.waits == ["_local_scalar_dense", "nonzero"]


@pytest.mark.parametrize("name", ["shot", "socket"])
def test_a_longer_segment_makes_the_host_wait_no_more_often(name: str) -> None:
    waits = []
    for steps in (2, 7):
        with Operations() as seen:
            adapt_tiny(segment_of(steps=steps), method__name=name, method__refresh_every=100)
        waits.append(len(seen.waits))
    assert waits[0] == waits[1]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA: only there do copies make a host wait")
def test_no_step_on_a_gpu_waits() -> None:
    network, source = tiny_network(), tiny_network()
    job = experiment(device="cuda", method__refresh_every=100)

    def forbid(done: int, of: int) -> None:
        # The first step compiles and chooses kernels; after the last one losses are read.
        torch.cuda.set_sync_debug_mode("default" if done == of else "error")

    try:
        adapt(network, source, site_data(), job, Segment("site-00", 1, 6, 1, fresh=True), on_step=forbid)
    finally:
        torch.cuda.set_sync_debug_mode("default")
