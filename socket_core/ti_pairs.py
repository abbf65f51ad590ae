"""TI pairs as adaptation uses them: fixed joint views with cached source features, and pairs kept out as a probe.

Cached features of a view are right only if the target half is shown in that very view, so each pair has ``ti_views``
draws for the whole job, the first of them un-augmented. Entry ``i`` is view ``i // n`` of pair ``i % n``.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from socket_core.agreement import PairProbe
from socket_core.config import Experiment
from socket_core.data.augment import identity, join
from socket_core.data.loader import IndexStream, Loader, Preprocessing, upload
from socket_core.data.types import Index, Pairs
from socket_core.methods.base import Method, TiBatch
from socket_core.seeds import derive_seed

PROBE_SHARE = 8
"""One pair in so many is kept out of training to probe agreement."""

PROBE_MINIMUM = 8
"""With fewer pairs than this in the probe, all pairs of the site serve, though training knows them."""

PROBE_MAXIMUM = 256
"""More would cost time and tell no more: the standard error of an agreement is 3 points then."""


class TiPairs:
    """A site's pairs for one job.

    Args:
        pairs: All of the site's pairs.
        method: A configured method, whose source's features are cached.
        experiment: Views, preparation and seed.
        site: Stable name.
        device: Where batches go.
    """

    def __init__(self, pairs: Pairs, method: Method, experiment: Experiment, site: str, device: torch.device):
        train, held = split_probe(len(pairs), derive_seed(experiment.seed, site, "ti probe"))
        asks = method.cfg.trust == "agreement"
        everyone = np.arange(len(pairs), dtype=np.int64)
        # By position: a part taken out of mapped pixels would be a copy of them in memory.
        self._rows, probed = (train, held) if asks and len(held) else (everyone, everyone)
        self._target, self._rgb = _loaders(pairs, experiment, device)
        self._count, self._wants_rgb = len(self._rows), method.wants_rgb
        rng = np.random.default_rng(derive_seed(experiment.seed, site, "ti views"))
        views = [identity(self._count)]
        views += [self._target.draw(rng, self._count) for _ in range(experiment.method.ti_views - 1)]
        self._draws = join(views)
        self._features = self._cache(method)
        self.probe = _probe(self._target, self._rgb, probed[:PROBE_MAXIMUM], method) if asks else None
        self.shuffle(0)

    @torch.no_grad()
    def _cache(self, method: Method) -> Tensor:
        total = len(self._draws)
        chunks = np.array_split(np.arange(total), -(-total // 256))
        batches = (self._rgb.batch(self._rows[i % self._count], self._draws.take(i)) for i in chunks)
        return torch.cat([method.source.features(x) for x in batches])

    def shuffle(self, seed: int) -> None:
        """Starts over in a new order."""
        self._stream = IndexStream(len(self._draws), np.random.default_rng(seed))

    def take(self, count: int) -> TiBatch:
        """The next ``count`` views of pairs with the source features of their RGB halves."""
        index = self._stream.take(min(count, self._count))
        pair, draws = self._rows[index % self._count], self._draws.take(index)
        features = self._features[upload(index, self._features.device)]
        return TiBatch(
            self._target.batch(pair, draws), features, self._rgb.batch(pair, draws) if self._wants_rgb else None
        )


def probe_size(count: int) -> int:
    """How many of so many pairs are kept out of training; of too few, none is."""
    held = min(count // PROBE_SHARE, PROBE_MAXIMUM)
    return held if held >= PROBE_MINIMUM else 0


def split_probe(count: int, seed: int) -> tuple[Index, Index]:
    """Positions of the pairs to train with and of those kept out, both sorted."""
    held = probe_size(count)
    order = np.random.default_rng(seed).permutation(count).astype(np.int64)
    return np.sort(order[held:]), np.sort(order[:held])


def _loaders(pairs: Pairs, experiment: Experiment, device: torch.device) -> tuple[Loader, Loader]:
    """Target halves and RGB halves, each prepared as its modality is."""
    target, rgb = Preprocessing.of(experiment.data), Preprocessing.of(experiment.data, "rgb")
    return Loader(pairs.target, target, device), Loader(pairs.rgb, rgb, device)


@torch.no_grad()
def _probe(target: Loader, rgb: Loader, rows: Index, method: Method) -> PairProbe:
    other_view = rgb.draw(np.random.default_rng(0), len(rows))
    return PairProbe(target.batch(rows), method.source(rgb.batch(rows)), method.source(rgb.batch(rows, other_view)))
