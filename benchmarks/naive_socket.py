"""SOCKET in the shape that a first implementation takes: what the product's step is measured against.

Written from the papers and from facts about where the time of the released code goes, in own words; no line is
anybody else's. It computes the same loss as the product with ``ti_loss: frobenius`` (a test compares the terms), and
does so in that shape: a hook on each BatchNorm2d that reads its input again, also in TI passes where nobody asks for
it, copies it to lay it out by channel, and moves the moments to the CPU; a trainable gate on the moment distances; a
loop over the images of a batch that mixes the sources' outputs one image at a time; views of the two halves of a pair
drawn apart, decoded from files in each step; labels and evaluation by two passes over the same files.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from socket_core.models import Network

WEIGHTS = {"pl": 0.3, "im": 1.0, "bn": 0.5, "ti": 0.5}
FIRST_LAYER = 10.0


class NaiveSocket:
    """One object for networks, hooks, loss and optimiser.

    Args:
        sources: One network or several; copies of them are trained.
        lr: Of everything but backbones, which learn at a tenth.
        gate: Start of the trainable gates; 100 leaves them open.
        weights: Of the loss terms.
    """

    def __init__(
        self,
        sources: Sequence[Network],
        *,
        lr: float = 1e-2,
        gate: float = 1.0,
        weights: dict[str, float] = WEIGHTS,
    ) -> None:
        self.weights = weights
        self.targets = [copy.deepcopy(source).train() for source in sources]
        self.gates = nn.Parameter(torch.full((len(sources),), gate))
        self._moments: list[list[tuple[Tensor, Tensor]]] = [[] for _ in sources]
        self._aims: list[list[tuple[Tensor, Tensor]]] = []
        groups: list[dict[str, object]] = [{"params": [self.gates], "lr": lr}]
        for k, target in enumerate(self.targets):
            target.classifier.requires_grad_(False)
            layers = [m for m in target.modules() if isinstance(m, nn.BatchNorm2d)]
            self._aims.append([(_there(m.running_mean), _there(m.running_var)) for m in layers])
            for layer in layers:
                layer.register_forward_hook(self._hook(k))
            groups.append({"params": list(target.backbone.parameters()), "lr": 0.1 * lr})
            groups.append({"params": list(target.bottleneck.parameters()), "lr": lr})
        self._optimiser = torch.optim.SGD(groups, momentum=0.9, weight_decay=1e-3, nesterov=True)

    def _hook(self, source: int) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
        def record(_layer: nn.Module, given: tuple[Tensor, ...], _out: Tensor) -> None:
            x = given[0]
            mean = x.mean([0, 2, 3])
            var = x.permute(1, 0, 2, 3).contiguous().view(x.shape[1], -1).var(1, unbiased=False)
            self._moments[source].append((mean.cpu(), var.cpu()))

        return record

    def shares(self) -> Tensor:
        """How much each source counts."""
        gates = torch.sigmoid(self.gates)
        return gates / gates.sum()

    def _mixed(self, outputs: Sequence[Tensor]) -> Tensor:
        """The outputs ``(N, D)`` of all sources mixed, one image after another."""
        rows = []
        for i in range(len(outputs[0])):
            own = torch.stack([out[i] for out in outputs])
            rows.append(self.shares().view(1, -1) @ own)
        return torch.cat(rows)

    def terms(self, tr: Tensor, labels: Tensor, ti: Tensor, source_features: Sequence[Tensor]) -> dict[str, Tensor]:
        """The weighted loss terms of a step.

        Args:
            tr: ``(N, 3, H, W)``.
            labels: ``(N,)`` pseudo-labels.
            ti: ``(M, 3, H, W)`` target halves.
            source_features: ``(M, D)`` of each source.
        """
        for moments in self._moments:
            moments.clear()
        probabilities = self._mixed([target(tr) for target in self.targets]).softmax(1)
        distance = torch.zeros(())
        for gate, moments, aims in zip(self.gates, self._moments, self._aims, strict=True):
            for layer, ((mean, var), (aim_mean, aim_var)) in enumerate(zip(moments, aims, strict=True)):
                weight = (FIRST_LAYER if layer == 0 else 1.0) * torch.sigmoid(gate.cpu()) * torch.ones(1)
                distance = distance + (weight * (mean - aim_mean).norm() + weight * (var - aim_var).norm()).sum()
        entropy, total = torch.zeros(()), torch.zeros_like(probabilities[0])
        for p in probabilities:
            entropy = entropy - (p * torch.log(p + 1e-12)).sum()
            total = total + p
        mean_p = total / len(probabilities)
        information = entropy / len(probabilities) + (mean_p * torch.log(mean_p + 1e-12)).sum()
        gaps = [target.features(ti) - aim for target, aim in zip(self.targets, source_features, strict=True)]
        pl = F.nll_loss(torch.log(probabilities + 1e-12), labels)
        found = {"pl": pl, "im": information, "bn": distance, "ti": self._mixed(gaps).norm()}
        return {name: self.weights[name] * value for name, value in found.items()}

    def step(self, tr: Tensor, labels: Tensor, ti: Tensor, source_features: Sequence[Tensor]) -> float:
        """One optimiser step; the loss, which the training loop prints."""
        loss = torch.stack([*self.terms(tr, labels, ti, source_features).values()]).sum()
        self._optimiser.zero_grad()
        loss.backward()
        self._optimiser.step()
        return float(loss.item())


def _there(statistic: Tensor | None) -> Tensor:
    assert statistic is not None
    return statistic.clone().cpu()


def read_view(path: Path, size: int, rng: np.random.Generator | None) -> Tensor:
    """One image from its file, ``(3, size, size)``: resized to 8/7, a random crop and flip, or the centre of it."""
    with Image.open(path) as file:
        stored = np.asarray(file)
    if stored.ndim == 2:  # depth: 16 bits to 8, one channel three times
        stored = np.repeat((stored / 10_000 * 255).clip(0, 255).astype(np.uint8)[:, :, None], 3, axis=2)
    large = -(-size * 8 // 7)
    resized = np.asarray(Image.fromarray(stored).resize((large, large), Image.Resampling.BILINEAR))
    spare = large - size
    top, left = rng.integers(0, spare + 1, 2) if rng is not None else (spare // 2, spare // 2)
    view = resized[top : top + size, left : left + size]
    if rng is not None and rng.random() < 0.5:
        view = view[:, ::-1]
    return (torch.from_numpy(view.copy()).permute(2, 0, 1).float() / 255 - 0.5) / 0.5


def read_batch(paths: Sequence[Path], size: int, rng: np.random.Generator | None) -> Tensor:
    """A batch, image after image; the halves of a pair get views of their own."""
    return torch.stack([read_view(path, size, rng) for path in paths])
