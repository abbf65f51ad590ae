"""The pieces of the engine's loop one by one, as they are put together in ``socket_core.engine``."""

from __future__ import annotations

import numpy as np
import torch

from benchmarks.subjects import CLASSES, Subject, experiment, networks, site_data
from socket_core.data.loader import IndexStream, Loader, Preprocessing
from socket_core.methods.base import TiBatch, TrBatch
from socket_core.methods.socket import Socket
from socket_core.reading import read
from socket_core.ti_pairs import TiPairs
from socket_core.validators import VALIDATORS


class SiteLoop:
    """One site that runs SOCKET.

    Args:
        subject: Network and image size.
        tr: TR images.
        ti: TI pairs.
    """

    def __init__(self, subject: Subject, tr: int, ti: int) -> None:
        cfg, device, data = experiment(subject), torch.device("cpu"), site_data(tr, ti, subject.size)
        self.count, self.batch = tr, subject.batch
        self.network, source = networks(subject)
        self.method = Socket(cfg.method, cfg.federation.bn_policy)
        self.method.configure(self.network, source)
        self.method.check()
        self.loader = Loader(data.tr, Preprocessing.of(cfg.data), device)
        self.pairs = TiPairs(data.ti, self.method, cfg, "site", device)
        self.method.probe = self.pairs.probe
        self.method.begin(self.loader)
        self.method.labels = torch.arange(tr) % CLASSES
        self._optimiser, self._rng = self.method.optimiser(), np.random.default_rng(0)
        self._stream = IndexStream(tr, self._rng)
        self._taken = self.draw()

    def draw(self) -> tuple[TrBatch, TiBatch]:
        """The next batches, from pixels to network input; they stay for :meth:`compute`."""
        index = self._stream.take(self.batch)
        x = self.loader.batch(index, self.loader.draw(self._rng, self.batch))
        self._taken = TrBatch(x, torch.as_tensor(index)), self.pairs.take(self.batch)
        return self._taken

    def compute(self) -> None:
        """A step on the batches that were drawn last."""
        self._optimiser.zero_grad()
        torch.stack(list(self.method.step(*self._taken).values())).sum().backward()
        self._optimiser.step(1e-3)

    def refresh(self) -> None:
        """Pseudo-labels and trust from the whole set."""
        self.method.refresh(self.loader)

    def refresh_and_evaluate(self) -> float:
        """The same and a validator's score of the network as it stands: one pass serves both."""
        seen = read(self.network, self.loader)
        self.method.refresh(self.loader, seen)
        return VALIDATORS["im"](seen.logits.cpu())

    @property
    def steps(self) -> int:
        """Steps of an epoch."""
        return -(-self.count // self.batch)
