"""A membership attack on updates: was this image, or this pair, among those that the update was made from?

The attacker is the owner, who has the source, the parameters before a round, the change that one site sent, and
candidates. Two scores of a candidate, each summed over rounds, higher for members:

* ``alignment``: the cosine between the change and the direction that lowers the candidate's own loss, ``-grad l``
  at the parameters before the round (gradient alignment, as in Li, Li, Ribeiro, "Effective passive membership
  inference attacks in federated learning against overparameterized models", ICLR 2023);
* ``loss_drop``: ``l(before) - l(before + change)`` (after Yeom et al., CSF 2018).

BatchNorm is the **source's**, scales and shifts too where they stay at the site: the owner has it, and the site's own
is never read. An owner who guesses the site's statistics, from images like its own, may do better.

The loss ``l`` is the candidate's share in what the site minimises. Of a task-relevant (TR) image: its entropy and the
cross-entropy to its own pseudo-label at ``before``, with the method's weights; what couples a batch (diversity, L_d)
is nobody's own. Of a task-irrelevant (TI) pair: the squared distance of target features from the source's of its RGB
half, over the views that :class:`~socket_core.privacy.records.Records` draws, as a DP step sees the pair.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from socket_core.batchnorm import bn_mode
from socket_core.config import Experiment
from socket_core.data.loader import Loader, Preprocessing
from socket_core.data.types import Images, Index, Pairs
from socket_core.engine import pick_device
from socket_core.exchange import Flat, flatten, parameters_of, travelling_specs, unflatten
from socket_core.losses import feature_distance_per_sample, mean_entropy, pseudo_label_loss
from socket_core.models import Model
from socket_core.privacy.membership import Reals
from socket_core.privacy.records import Records
from socket_core.privacy.scope import scope_parameters

SCORES = ("alignment", "loss_drop")
HEADLINE = "alignment"
"""Which of them a report puts first: chosen before any was measured. All are reported."""

CONTROL = "loss_before"
"""``-l(before)``. With :meth:`Attacker.unknowing` it cannot know who is a member: an area that is not 0.5 says that
members and others are unlike images, and then the other scores measure that too."""

_BUDGET = 2**26
"""Numbers that the gradients of one chunk of candidates may take together: 256 MB."""

Candidates = Callable[[Index, Mapping[str, Tensor]], tuple[Tensor, Tensor]]
"""From positions and parameters before the round: images ``(B, V, 3, H, W)``, and what their loss holds them to."""
Loss = Callable[[Tensor, Tensor], Tensor]
"""Of one candidate: bottleneck features of its V images ``(V, D)``, and its aim."""


@dataclass(frozen=True)
class Seen:
    """One round as the owner sees it: flat parameters before, and the change that a site sent."""

    before: Flat
    change: Flat


class Attacker:
    """An owner who tests candidates against updates.

    Args:
        source: A source model; its device, its memory format and what of it may learn change, its values do not.
        experiment: Method, BatchNorm policy, preparation of images.
    """

    def __init__(self, source: Model, experiment: Experiment) -> None:
        self._device = pick_device(experiment.device)
        source.to(device=self._device, memory_format=torch.channels_last)  # type: ignore[call-overload]  # as documented
        self._source, self._experiment = source.eval().requires_grad_(True), experiment
        self._specs = travelling_specs(source, experiment.federation.bn_policy)

    def unknowing(self) -> Seen:
        """The source, and no change: what is found in it was known before the job."""
        start = flatten(parameters_of(self._source), self._specs)
        return Seen(start, np.zeros_like(start))

    def tr(self, images: Images, rounds: Sequence[Seen]) -> list[dict[str, Reals]]:
        """Scores ``(N,)`` of task-relevant images, by name, for each round."""
        loader = Loader(images, Preprocessing.of(self._experiment.data), self._device)
        own = self._experiment.method
        weights = own.transfer if own.name == "tgkt" else own.weights
        # A method with neither term moves its images' predictions all the same.
        im, pl = (weights.im, weights.pl) if weights.im or weights.pl else (1.0, 0.0)

        def loss(features: Tensor, label: Tensor) -> Tensor:
            logits = self._source.logits(features)
            return im * mean_entropy(logits) + pl * pseudo_label_loss(logits, label)

        def candidates(index: Index, before: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
            x = loader.batch(index)
            label = torch.func.functional_call(self._source, dict(before), (x,)).argmax(1)
            return x[:, None], label[:, None]

        return self._scores(len(images), candidates, loss, rounds, [key for key, _ in self._specs])

    def ti(self, pairs: Pairs, rounds: Sequence[Seen]) -> list[dict[str, Reals]]:
        """Scores ``(N,)`` of task-irrelevant pairs, by name, for each round."""
        records = Records(pairs, self._source, self._experiment, self._device)

        def candidates(index: Index, _: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
            x, features = records.batch(index)
            return x, features

        def loss(features: Tensor, aim: Tensor) -> Tensor:
            both = zip(self._source.split(aim), self._source.split(features), strict=True)
            return torch.stack([feature_distance_per_sample(one, other) for one, other in both]).mean()

        return self._scores(len(pairs), candidates, loss, rounds, self._ti_keys())

    def _ti_keys(self) -> list[str]:
        """Parameters that TI pairs have moved: under DP those of its scope, as far as they travel."""
        keys = [key for key, _ in self._specs]
        if self._experiment.privacy is None:
            return keys
        scope = scope_parameters(self._source, self._experiment.privacy.scope)
        return [key for key in keys if key in scope] or keys

    @torch.no_grad()  # of the outer graph: the inner one is vmap's own
    def _scores(
        self, count: int, candidates: Candidates, loss: Loss, rounds: Sequence[Seen], keys: Sequence[str]
    ) -> list[dict[str, Reals]]:
        sizes = {key: parameter.numel() for key, parameter in parameters_of(self._source).items()}
        chunk = max(1, min(64, _BUDGET // sum(sizes[key] for key in keys)))
        parts = [np.arange(i, min(i + chunk, count), dtype=np.int64) for i in range(0, count, chunk)]
        own, out = _OwnLoss(self._source, loss), []
        for seen in rounds:
            before, after = self._unflatten(seen.before), self._unflatten(seen.before + seen.change)
            change = self._unflatten(seen.change)
            found = []
            with bn_mode(self._source, "frozen"), _no_vmap_warning():
                for index in parts:
                    x, aim = candidates(index, before)
                    gradients, loss_before = own.gradients(before, keys, x, aim)
                    drop = loss_before - own.values(after, x, aim)
                    found.append((_alignment(gradients, change), drop, -loss_before))
            scores = [torch.cat(one).double().cpu().numpy() for one in zip(*found, strict=True)]
            out.append(dict(zip((*SCORES, CONTROL), scores, strict=True)))
        return out

    def _unflatten(self, flat: Flat) -> dict[str, Tensor]:
        return {key: tensor.to(self._device) for key, tensor in unflatten(flat, self._specs).items()}


class _OwnLoss(nn.Module):
    """The loss of one candidate as a module of its own, which is what ``functional_call`` wants."""

    def __init__(self, model: Model, loss: Loss) -> None:
        super().__init__()
        self.model, self._loss = model, loss

    def forward(self, x: Tensor, aim: Tensor) -> Tensor:
        """A scalar, of ``(V, 3, H, W)``."""
        return self._loss(self.model.features(x), aim)

    def values(self, parameters: Mapping[str, Tensor], x: Tensor, aim: Tensor) -> Tensor:
        """The loss of each of B candidates, ``(B,)``."""
        named = {f"model.{key}": p for key, p in parameters.items()}

        def one(x: Tensor, aim: Tensor) -> Tensor:
            out: Tensor = torch.func.functional_call(self, named, (x, aim))
            return out

        return torch.func.vmap(one)(x, aim)

    def gradients(
        self, parameters: Mapping[str, Tensor], keys: Sequence[str], x: Tensor, aim: Tensor
    ) -> tuple[dict[str, Tensor], Tensor]:
        """Each candidate's gradient in the parameters at ``keys``, ``(B, *shape)``, and its loss ``(B,)``."""
        fixed = {f"model.{key}": p for key, p in parameters.items() if key not in keys}

        def one(trained: dict[str, Tensor], x: Tensor, aim: Tensor) -> Tensor:
            out: Tensor = torch.func.functional_call(self, fixed | trained, (x, aim))
            return out

        trained = {f"model.{key}": parameters[key] for key in keys}
        found, losses = torch.func.vmap(torch.func.grad_and_value(one), in_dims=(None, 0, 0))(trained, x, aim)
        return {key: found[f"model.{key}"] for key in keys}, losses


def _alignment(gradients: Mapping[str, Tensor], change: Mapping[str, Tensor]) -> Tensor:
    """``-cos(gradient, change)`` of each candidate, ``(B,)``; 0 where one of the two is 0."""
    inner = torch.stack([(g.flatten(1) @ change[key].flatten()) for key, g in gradients.items()]).sum(0)
    own = torch.stack([g.flatten(1).square().sum(1) for g in gradients.values()]).sum(0).sqrt()
    norm = torch.stack([change[key].square().sum() for key in gradients]).sum().sqrt()
    return torch.where(own * norm > 0, -inner / (own * norm).clamp(min=torch.finfo(own.dtype).tiny), 0.0)


@contextmanager
def _no_vmap_warning() -> Iterator[None]:
    with warnings.catch_warnings():
        # Global average pooling of channels-last images has one trivial operation that vmap loops over.
        warnings.filterwarnings("ignore", message="There is a performance drop", category=UserWarning)
        yield
