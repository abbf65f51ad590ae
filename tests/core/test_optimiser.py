"""The learning rate over a whole job, and Nesterov SGD as PyTorch has it."""

from __future__ import annotations

import pytest
import torch

from socket_core import engine
from socket_core.optimiser import NesterovSgd, lr_factor
from tests.core.builders import adapt_tiny, changed, segment_of, snapshot, tiny_network


def test_the_schedule_goes_on_across_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[int, int]] = []

    def spy(step: int, total: int) -> float:
        seen.append((step, total))
        return lr_factor(step, total)

    monkeypatch.setattr(engine, "lr_factor", spy)
    for round_ in (1, 2):
        adapt_tiny(segment_of(round_=round_))
    assert seen == [(i, 6) for i in range(6)]


def test_the_schedule_is_that_of_the_papers() -> None:
    assert lr_factor(0, 7) == 1.0
    assert lr_factor(3, 10) == pytest.approx(4**-0.75)
    assert lr_factor(10, 10) == pytest.approx(11**-0.75)


@pytest.mark.parametrize(("momentum", "weight_decay"), [(0.9, 1e-3), (0.0, 0.1), (0.5, 0.0)])
def test_the_optimiser_is_nesterov_sgd(momentum: float, weight_decay: float) -> None:
    ours, theirs = tiny_network(), tiny_network()
    for network in (ours, theirs):
        network.classifier.requires_grad_(False)
    optimiser = NesterovSgd(ours, lr=0.1, backbone_lr_scale=0.3, momentum=momentum, weight_decay=weight_decay)
    groups = [{"params": m.parameters(), "lr": 0.1} for m in (theirs.backbone, theirs.bottleneck)]
    reference = torch.optim.SGD(groups, momentum=momentum, weight_decay=weight_decay, nesterov=momentum > 0)
    generator = torch.Generator().manual_seed(0)
    for factor in (1.0, 0.5, 0.25):
        optimiser.zero_grad()
        reference.zero_grad()
        pairs = list(zip(ours.named_parameters(), theirs.parameters(), strict=True))
        for (name, p), q in pairs:
            if factor < 1 or not name.startswith("bottleneck.0"):  # one layer gets its first gradient later
                p.grad = torch.randn(p.shape, generator=generator)
                q.grad = p.grad.clone()
        optimiser.step(factor)
        for group, base in zip(reference.param_groups, (0.03, 0.1), strict=True):
            group["lr"] = base * factor
        reference.step()
    before, a, b = snapshot(tiny_network()), snapshot(ours), snapshot(theirs)
    assert all(torch.allclose(a[key], b[key], rtol=1e-6, atol=1e-7) for key in a)
    moved = {key for key, p in ours.named_parameters() if p.requires_grad}
    assert changed(before, a) == moved


def test_a_gradient_in_another_layout_is_taken_value_by_value() -> None:
    network = tiny_network()
    weight = next(p for p in network.backbone.parameters() if p.dim() == 4 and p.shape[1] > 1)
    before, gradient = weight.detach().clone(), torch.randn(weight.shape, generator=torch.Generator().manual_seed(0))
    weight.grad = gradient.contiguous(memory_format=torch.channels_last)
    assert weight.grad.stride() != weight.stride()
    NesterovSgd(network, lr=0.5, backbone_lr_scale=1.0, momentum=0.0, weight_decay=0.0).step(1.0)
    torch.testing.assert_close(weight.detach(), before - 0.5 * gradient)
