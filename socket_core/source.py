"""Source training on the owner's private labelled images (methods.md section 1)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from socket_core.batchnorm import bn_mode
from socket_core.config import Experiment
from socket_core.data.loader import IndexStream, Loader, Preprocessing
from socket_core.data.types import Index, Labelled
from socket_core.engine import pick_device
from socket_core.errors import DataError, MethodError
from socket_core.evaluation import evaluate, scores
from socket_core.losses import smoothed_cross_entropy
from socket_core.models import Network, build_network
from socket_core.optimiser import NesterovSgd, lr_factor
from socket_core.pretrained import load_backbone
from socket_core.seeds import derive_seed


@dataclass(frozen=True)
class SourceReport:
    """How source training went.

    Attributes:
        best_epoch: 1-based epoch whose weights were kept.
        validation_accuracy: Of the kept weights, on source images held out from training.
        test_accuracy: On the source test images, which chose nothing.
    """

    best_epoch: int
    validation_accuracy: float
    test_accuracy: float


def train_source(
    experiment: Experiment,
    train: Labelled,
    test: Labelled,
    classes: int,
    *,
    on_epoch: Callable[[int, int, float], None] | None = None,
) -> tuple[Network, SourceReport]:
    """Trains the source model and keeps the weights of the best validation epoch.

    Args:
        experiment: ``source``, ``network``, ``data`` and ``seed`` are used.
        train: Labelled RGB images; a share of them validates.
        test: Labelled RGB images for the reported accuracy only.
        classes: K.
        on_epoch: Called with (epoch, epochs, validation accuracy).

    Returns:
        The network in eval mode, with the best weights, and the report.

    Raises:
        ConfigError: If ``network.weights`` cannot be read or is of another backbone.
        DataError: If there are too few images to train and validate.
        MethodError: If the loss is no longer finite.
    """
    cfg = experiment.source
    torch.set_num_threads(cfg.threads)
    device = pick_device(experiment.device)
    network = build_network(
        experiment.network.backbone,
        experiment.network.bottleneck_dim,
        classes,
        seed=derive_seed(experiment.seed, "source weights"),
    )
    if experiment.network.weights:
        weights = Path(experiment.network.weights).expanduser()
        load_backbone(network, weights, name=experiment.network.backbone)
    network.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]  # as documented
    rng = np.random.default_rng(derive_seed(experiment.seed, "source draws"))
    fit, held = _split(train, cfg.validation, rng)
    prep = Preprocessing.of(experiment.data, "rgb")
    loader = Loader(fit.images, prep, device)
    labels = torch.as_tensor(fit.labels, device=device)
    optimiser = NesterovSgd(
        network,
        lr=cfg.lr,
        backbone_lr_scale=cfg.backbone_lr_scale,
        momentum=cfg.momentum,
        weight_decay=cfg.weight_decay,
    )
    batch = min(cfg.batch, len(fit))
    per_epoch = -(-len(fit) // batch)
    stream = IndexStream(len(fit), rng)
    best_accuracy, best_epoch, best_state = -1.0, 0, _copy(network)
    for epoch in range(1, cfg.epochs + 1):
        with bn_mode(network, "update"):
            for i in range(per_epoch):
                index = stream.take(batch)
                x = loader.batch(index, loader.draw(rng, batch))
                loss = smoothed_cross_entropy(network(x), labels[torch.as_tensor(index)], cfg.smoothing)
                optimiser.zero_grad()
                loss.backward()
                optimiser.step(lr_factor((epoch - 1) * per_epoch + i, cfg.epochs * per_epoch))
        if not torch.isfinite(loss):
            raise MethodError("the loss is no longer finite", where=f"epoch {epoch}", remedy="lower source.lr")
        accuracy = scores(evaluate(network, held, prep, classes)).accuracy
        if accuracy >= best_accuracy:  # of equals the later one: it has seen more
            best_accuracy, best_epoch, best_state = accuracy, epoch, _copy(network)
        if on_epoch is not None:
            on_epoch(epoch, cfg.epochs, accuracy)
    network.load_state_dict(best_state)
    network.eval().requires_grad_(False)
    test_accuracy = scores(evaluate(network, test, prep, classes)).accuracy
    return network, SourceReport(best_epoch, best_accuracy, test_accuracy)


def _split(train: Labelled, share: float, rng: np.random.Generator) -> tuple[Labelled, Labelled]:
    held = round(len(train) * share)
    if held < 1 or len(train) - held < 2:
        raise DataError(
            f"{len(train)} source images cannot be split into training and {share:.0%} validation",
            where="source.validation",
            remedy="add images or change the share",
        )
    order: Index = rng.permutation(len(train))
    return train.take(np.sort(order[held:])), train.take(np.sort(order[:held]))


def _copy(network: Network) -> dict[str, Tensor]:
    """Copies, not references: the state of a running network goes on changing."""
    return {key: value.detach().clone() for key, value in network.state_dict().items()}
