"""TI pairs as records: what one pair contributes depends on that pair alone.

The views of a pair are drawn from a seed made of the pair's own content. Drawn for the whole set in one go, as
training without DP does, one more pair would change the views of all others, and no clip bounds that.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from socket_core.config import Experiment
from socket_core.data.augment import Draw, identity, join
from socket_core.data.loader import Loader, Preprocessing, upload
from socket_core.data.types import Index, Pairs
from socket_core.models import Model
from socket_core.seeds import derive_seed


def record_digests(pairs: Pairs) -> list[bytes]:
    """sha256 of each pair's pixels: what a ledger knows a record by where there are no files."""
    halves = zip(pairs.rgb.pixels, pairs.target.pixels, strict=True)
    return [hashlib.sha256(rgb.tobytes() + target.tobytes()).digest() for rgb, target in halves]


class Records:
    """A site's pairs, each with its views and the source's features of the RGB half in these views.

    Args:
        pairs: The pairs.
        source: The frozen source, in eval mode.
        experiment: Views, preparation and seed.
        device: Where batches go.
        with_rgb: Whether batches hold the RGB halves too.
    """

    def __init__(
        self, pairs: Pairs, source: Model, experiment: Experiment, device: torch.device, *, with_rgb: bool = False
    ) -> None:
        self._target = Loader(pairs.target, Preprocessing.of(experiment.data), device)
        rgb = Loader(pairs.rgb, Preprocessing.of(experiment.data, "rgb"), device)
        self._rgb = rgb if with_rgb else None
        self.count, self._views = len(pairs), experiment.method.ti_views
        digests = record_digests(pairs)
        self._draws = [self._draw(digest, experiment.seed) for digest in digests]
        self._features = _features(source, rgb, self._draws, self._views)

    def _draw(self, digest: bytes, seed: int) -> Draw:
        """A pair's views: the first as it is, the others shifted and mirrored."""
        rng = np.random.default_rng(derive_seed(seed, "record views", digest.hex()))
        return join([identity(1), self._target.draw(rng, self._views - 1)])

    def batch(self, index: Index) -> tuple[Tensor, ...]:
        """The pairs at ``index``, B >= 1 of them, in V views each.

        Returns:
            Target halves ``(B, V, 3, H, W)``, source features ``(B, V, D)``, and RGB halves where they are wanted.
        """
        rows, draws = np.repeat(index, self._views), join([self._draws[i] for i in index])
        features = self._features[upload(index, self._features.device)]
        images = [half.batch(rows, draws) for half in (self._target, self._rgb) if half is not None]
        x, *rgb = (image.reshape(len(index), self._views, *image.shape[1:]) for image in images)
        return x, features, *rgb


@torch.no_grad()
def _features(source: Model, rgb: Loader, draws: Sequence[Draw], views: int) -> Tensor:
    """``(N, V, D)``."""
    chunk = max(1, 256 // views)
    found = []
    for start in range(0, len(draws), chunk):
        part = np.arange(start, min(start + chunk, len(draws)), dtype=np.int64)
        out = source.features(rgb.batch(np.repeat(part, views), join(draws[start : start + chunk])))
        found.append(out.reshape(len(part), views, -1))
    return torch.cat(found)
