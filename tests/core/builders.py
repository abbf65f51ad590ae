"""Small inputs for tests: images, scenes, a tiny network away from its initial state, short jobs and single steps."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from socket_core.agreement import PairProbe, Predictor
from socket_core.batchnorm import bn_layers
from socket_core.config import BnPolicy, Experiment, MethodConfig, MethodName, parse_experiment
from socket_core.data import scenes
from socket_core.data.loader import Loader, Preprocessing
from socket_core.data.types import Images, Labelled, Pairs, SiteData, TransferTask
from socket_core.engine import AdaptReport, Segment, adapt, make_bridge
from socket_core.ensemble import Ensemble
from socket_core.methods import Method, build_method
from socket_core.methods.base import Terms, TiBatch, TrBatch
from socket_core.methods.socket import Socket
from socket_core.models import Model, Network, build_network
from socket_core.translators import Bridge

torch.set_num_threads(1)  # tensors here are so small that threads only wait for each other

SIDE = 16
CLASSES = 3
CPU = torch.device("cpu")
POLICIES: tuple[BnPolicy, ...] = get_args(BnPolicy)
METHOD_NAMES: tuple[MethodName, ...] = get_args(MethodName)
LABELS = np.arange(12) % CLASSES
"""Labels of the task-relevant images of :func:`site_data`, which only the oracle gets."""
ONE_ROUND = Segment("site-00", round=1, steps=3, rounds=1, fresh=True)
PUBLISHED: dict[str, Any] = {
    "method__weights": {"pl": 0.3, "im": 1.0, "bn": 0.5, "ti": 0.5},
    "method__ti_loss": "frobenius",
    "method__lr": 0.01,
    "method__backbone_lr_scale": 0.1,
}
"""SOCKET as released, for :func:`experiment`. Frozen BatchNorm needs its small steps here: in eval mode the last layer
of :func:`tiny_network` multiplies by 300, and at the default rate the weights diverge at once."""
SCENE_SIDE = 48
SCENE_COUNTS = {"source_train": 24, "source_test": 9, "target_train": 16, "target_test": 8, "ti": 12}


def _patterns(n: int, seed: int) -> NDArray[np.float64]:
    """Values in 0..1, ``(n, SIDE, SIDE)``: coarse patches that differ between images, which plain noise does not."""
    rng = np.random.default_rng(seed)
    coarse = rng.random((n, 4, 4)) * rng.random((n, 1, 1))
    return 0.9 * np.kron(coarse, np.ones((1, SIDE // 4, SIDE // 4))) + 0.1 * rng.random((n, SIDE, SIDE))


def rgb_images(n: int, seed: int = 0) -> Images:
    """Random colour images."""
    channels = [_patterns(n, 3 * seed + channel) for channel in range(3)]
    return Images((255 * np.stack(channels, axis=3)).astype(np.uint8), 255.0)


def depth_images(n: int, seed: int = 1) -> Images:
    """Random 16-bit depth images."""
    return Images((10_000 * _patterns(n, seed)).astype(np.uint16), 10_000.0)


def twin_pairs(n: int, seed: int = 2) -> Pairs:
    """Pairs whose halves become the same network input: any other draw of one half shows at once."""
    grey = (255 * _patterns(n, seed)).astype(np.uint8)
    return Pairs(Images(np.repeat(grey[..., None], 3, axis=3), 255.0), Images(grey, 255.0))


def site_data(n: int = 12, pairs: int = 8, seed: int = 0) -> SiteData:
    """Depth images and RGB-depth pairs of one site."""
    return SiteData(depth_images(n, seed + 10), Pairs(rgb_images(pairs, seed + 20), depth_images(pairs, seed + 30)))


def normal_batch(n: int = 4, seed: int = 0, scale: float = 1.0) -> Tensor:
    """Network inputs from a normal distribution about 0.5."""
    return scale * torch.randn(n, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(seed)) + 0.5


def scenes_task(cache: Path | None = None, **changes: Any) -> TransferTask:
    """A small task of rendered scenes; ``changes`` are arguments of :func:`scenes.load_scenes`."""
    values = {"size": SCENE_SIDE, "modality": "depth", "seed": 5, "cache": cache, **SCENE_COUNTS, **changes}
    return scenes.load_scenes(**values)


def task_parts(task: TransferTask) -> dict[str, Images]:
    """All images of a task, by the name of their set."""
    return {
        "source_train": task.source_train.images,
        "source_test": task.source_test.images,
        "target_train": task.target_train.images,
        "target_test": task.target_test.images,
        "ti_rgb": task.ti.rgb,
        "ti_target": task.ti.target,
    }


def labelled(n: int, seed: int = 0) -> Labelled:
    """Colour images with labels that can be learnt: the class sets the brightness."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % CLASSES
    pixels = rng.integers(0, 60, (n, SIDE, SIDE, 3)) + 90 * labels[:, None, None, None]
    return Labelled(Images(pixels.astype(np.uint8), 255.0), labels)


def tiny_network(seed: int = 0, backbone: str = "tiny", width: int = 8) -> Network:
    """A network whose BatchNorm layers hold no initial value and that predicts several classes, as after training."""
    network = build_network(backbone, width, CLASSES, seed=seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for layer in bn_layers(network).values():
            for tensor in (layer.weight, layer.running_var):
                assert tensor is not None
                tensor.copy_(torch.rand(tensor.shape, generator=generator) + 0.5)
            for tensor in (layer.bias, layer.running_mean):
                assert tensor is not None
                tensor.copy_(0.1 * torch.randn(tensor.shape, generator=generator))
            assert layer.num_batches_tracked is not None
            layer.num_batches_tracked.fill_(7)
        x = torch.from_numpy(_patterns(64, 99)).float()[:, None].expand(-1, 3, -1, -1) * 2 - 1
        values = network.bottleneck[0](network.eval().backbone(x))
        last = bn_layers(network)["bottleneck.1"]
        assert last.running_mean is not None
        assert last.running_var is not None
        last.running_mean.copy_(values.mean(0))
        last.running_var.copy_(values.var(0))
        dict(network.named_parameters())["classifier.parametrizations.weight.original0"].mul_(3)
    return network.train()


def two_networks() -> Ensemble:
    """Two networks of different backbone and width, as two owners would release them."""
    return Ensemble([tiny_network(0), tiny_network(1, "tiny_wide", 6)])


def experiment(**values: Any) -> Experiment:
    """A short experiment; keys are dotted with two underscores: ``method__lr=0.1``."""
    raw: dict[str, Any] = {
        "device": "cpu",
        "data": {"size": SIDE, "pad": 2},
        "network": {"bottleneck_dim": 8},
        "method": {"batch": 6, "trust": "always", "translator": {"width": 8}},
        "source": {"epochs": 3, "batch": 6, "backbone_lr_scale": 1.0, "validation": 0.25},
        "federation": {"sites": 1, "rounds": 1, "steps": 3, "quorum": 1},
    }
    for dotted, value in values.items():
        *sections, last = dotted.split("__")
        node = raw
        for section in sections:
            node = node.setdefault(section, {})
        node[last] = value
    if raw["method"].get("name") == "tgkt" and "federation__rounds" not in values:
        raw["federation"]["rounds"] = 2  # one for each stage
    return parse_experiment(raw, where="test")


def snapshot(module: nn.Module) -> dict[str, Tensor]:
    """Copies of all parameters and buffers."""
    return {key: value.detach().clone() for key, value in module.state_dict().items()}


def changed(before: dict[str, Tensor], after: dict[str, Tensor]) -> set[str]:
    """Keys whose tensors differ in any bit of their values."""
    assert before.keys() == after.keys()
    return {key for key in before if not torch.equal(before[key], after[key])}


def statistics(keys: Iterable[str]) -> set[str]:
    """The keys that are BatchNorm buffers."""
    return {key for key in keys if key.rsplit(".", 1)[-1] in ("running_mean", "running_var", "num_batches_tracked")}


PREP = Preprocessing.of(experiment().data)


def tr_loader() -> Loader:
    """Twelve depth images."""
    return Loader(depth_images(12), PREP, CPU)


def tr_batch() -> TrBatch:
    """Five of the images of :func:`tr_loader`."""
    index = np.array([7, 0, 3, 9, 1])
    return TrBatch(tr_loader().batch(index), torch.as_tensor(index))


def ti_batch(source: Model) -> TiBatch:
    """Four depth images, and what the source makes of the RGB images that they are paired with."""
    rgb = Loader(rgb_images(4, 5), PREP, CPU).batch(np.arange(4))
    with torch.no_grad():
        features = source.features(rgb)
    return TiBatch(Loader(depth_images(4, 6), PREP, CPU).batch(np.arange(4)), features, rgb)


class Fixed(PairProbe):
    """A probe that gives the answers it is told, in order of asking, over and over."""

    def __init__(self, *agreements: float, trust: float = 1.0) -> None:
        self._answers, self._trust = itertools.cycle(agreements or (1.0,)), trust

    def agreement(self, predict: Predictor) -> float:
        """The next answer."""
        return next(self._answers)

    def trust(self, agreement: float) -> float:
        """Always the same."""
        return self._trust


def configured(cfg: MethodConfig, policy: BnPolicy = "local") -> tuple[Method, Network, Network]:
    """A method that may step, its target and its source."""
    method, target, source = build_method(cfg, policy), tiny_network(), tiny_network()
    method.configure(target, source, bridge_for(cfg, source))
    return method, target, source


def bridge_for(cfg: MethodConfig, source: Network) -> Bridge | None:
    """An untrained translator, for methods with one."""
    values = {"name": cfg.name, "translator": cfg.translator.model_dump()}
    return make_bridge(experiment(method=values), source)


def adapt_by(
    name: str, policy: str = "local", *, network: Network | None = None, data: SiteData | None = None, **values: Any
) -> tuple[Network, AdaptReport]:
    """One round of a method, and the network that it leaves; its translator, if any, is untrained."""
    network, source = network or tiny_network(), tiny_network()
    labels = LABELS if name == "oracle" else None
    job = experiment(method__name=name, federation__bn_policy=policy, **values)
    bridge = make_bridge(job, source)
    return network, adapt(network, source, data or site_data(), job, ONE_ROUND, bridge=bridge, labels=labels)


def segment_of(site: str = "site-00", round_: int = 1, steps: int = 3, rounds: int = 2, fresh: bool = True) -> Segment:
    """The first of two rounds, if nothing else is asked for."""
    return Segment(site, round_, steps, rounds, fresh)


def adapt_tiny(
    segment: Segment | None = None, data: SiteData | None = None, **values: Any
) -> tuple[dict[str, Tensor], AdaptReport]:
    """The state of a tiny network after one segment; ``values`` as for :func:`experiment`."""
    network = tiny_network()
    report = adapt(network, tiny_network(), data or site_data(), experiment(**values), segment or segment_of())
    return snapshot(network), report


def record_steps(monkeypatch: pytest.MonkeyPatch) -> list[tuple[TrBatch, TiBatch, Terms]]:
    """Everything that SOCKET's steps are given and give back."""
    seen: list[tuple[TrBatch, TiBatch, Terms]] = []
    step: Callable[[Socket, TrBatch, TiBatch | None], Terms] = Socket.step

    def spy(self: Socket, tr: TrBatch, ti: TiBatch | None) -> Terms:
        terms = step(self, tr, ti)
        assert ti is not None
        seen.append((tr, ti, {name: value.detach().clone() for name, value in terms.items()}))
        return terms

    monkeypatch.setattr(Socket, "step", spy)
    return seen
