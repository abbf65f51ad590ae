"""Adaptation in a notebook: a release, a folder of images, an adapted model.

What a site does with ``site.yaml``, ledger and policy is ``socket-site adapt``; this is the same engine without them,
for images that are your own business.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from socket_core import engine, evaluation
from socket_core.config import Experiment, parse_experiment
from socket_core.data.decode import check_pair_sizes, decode_many, full_scale_for, original_size
from socket_core.data.files_of import by_name, files_below, paired
from socket_core.data.loader import Loader, Preprocessing
from socket_core.data.types import Images, Index, Labelled, Pairs, SiteData
from socket_core.errors import PrivacyError
from socket_core.evaluation import Scores
from socket_core.export.card import Preparation, card_of, write_adapted
from socket_core.keys import load_public_key
from socket_core.models import Model
from socket_core.release import Release, read_release

Sensor = Literal["depth", "nir"]


@dataclass(frozen=True)
class Adapted:
    """A network after adaptation.

    Attributes:
        network: In eval mode.
        release: What it was adapted from.
        experiment: All settings, the defaults too.
        report: Steps, images seen and mean losses.
    """

    network: Model
    release: Release
    experiment: Experiment
    report: engine.AdaptReport

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, in the order of the probabilities."""
        return self.release.info.classes

    @torch.no_grad()
    def predict(self, images: Images) -> NDArray[np.float32]:
        """Softmax probabilities of each image: how sure the network is, not how often it is right.

        Args:
            images: ``N`` target images at the release's size, as :func:`read_images` gives them.

        Returns:
            ``(N, K)`` float32, each row summing to 1, in the order of :attr:`classes`.
        """
        loader = Loader(images, Preprocessing.of(self.experiment.data), evaluation.device_of(self.network))
        found: NDArray[np.float32] = evaluation.predict_logits(self.network, loader).softmax(1).cpu().numpy()
        return found

    def save(self, path: str | Path, images: Images, *, raw: tuple[int, int] | None = None) -> None:
        """Writes ``.safetensors`` for ``socket-site predict`` and ``export``.

        Args:
            path: The file.
            images: Those that it was adapted on: their bit depth and full scale go into the file.
            raw: Height and width of images as the sensor stores them (:func:`raw_size`), for exported graphs.

        Raises:
            OSError: If the file cannot be written.
        """
        data, prep = self.experiment.data, Preprocessing.of(self.experiment.data)
        preparation = Preparation(
            modality=data.modality,
            bits=16 if images.pixels.dtype.itemsize == 2 else 8,
            rotated=False,
            raw=raw,
            size=data.size,
            full_scale=images.full_scale,
            mean=prep.mean,
            std=prep.std,
        )
        card = card_of([self.release.info], self.experiment, preparation, "notebook")
        write_adapted(Path(path), self.network.state_dict(), card)


def load_release(folder: str | Path, key: str | Path) -> Release:
    """A source model, after checking its signature and every tensor.

    Args:
        folder: Written by ``socket-owner train``.
        key: The owner's public key, ``owner.pub.pem``, received by another way than the release.

    Raises:
        ReleaseError: If anything is missing, altered or signed by another key.
    """
    return read_release(Path(folder), load_public_key(Path(key)))


def read_images(
    paths: str | Path | Sequence[str | Path],
    release: Release,
    modality: Sensor = "depth",
    *,
    full_scale: float | None = None,
) -> Images:
    """Target images at the release's size.

    Args:
        paths: Files, or folders of them.
        release: Says the size.
        modality: What they show; decides how they are resized (holes in depth are no values).
        full_scale: The pixel value that becomes 1.0; needed for 16 bits, for example 10000 for millimetres up to 10 m.

    Returns:
        ``N`` images as stored, ``(N, S, S)`` uint8 or uint16; see :attr:`Images.pixels`.

    Raises:
        DataError: If there are none, one cannot be read, bit depths differ, or ``full_scale`` is missing.
    """
    pixels = decode_many(_files(paths), modality, release.info.image_size)
    return Images(pixels, full_scale_for(pixels, full_scale))


def raw_size(paths: str | Path | Sequence[str | Path]) -> tuple[int, int] | None:
    """Height and width of image files in pixels as they are; None where they differ.

    Raises:
        DataError: If there are none, or one cannot be read.
    """
    sizes = {original_size(path) for path in _files(paths)}
    return next(iter(sizes))[::-1] if len(sizes) == 1 else None


def read_pairs(
    rgb: str | Path,
    target: str | Path,
    release: Release,
    modality: Sensor = "depth",
    *,
    full_scale: float | None = None,
) -> Pairs:
    """Task-irrelevant pairs: two folders with the same file names but for the ending.

    Arguments and errors as for :func:`read_images`.

    Raises:
        DataError: Also if a file has no other half, or two halves differ in size.
    """
    files = paired(*(by_name(folder, files_below([folder])) for folder in (Path(rgb), Path(target))))
    check_pair_sizes(files)
    colour = decode_many([one for one, _ in files], "rgb", release.info.image_size)
    own = read_images([other for _, other in files], release, modality, full_scale=full_scale)
    return Pairs(Images(colour, 255.0), own)


def adapt(
    release: Release,
    images: Images,
    pairs: Pairs | None = None,
    *,
    method: str | None = None,
    modality: Sensor = "depth",
    steps: int = 150,
    seed: int = 0,
    device: str = "auto",
    settings: Mapping[str, Any] | None = None,
    on_step: Callable[[int, int], None] | None = None,
) -> Adapted:
    """Adapts a source model to images without labels, here and without any server.

    Args:
        release: The source model; it is not changed.
        images: Task-relevant target images, two or more.
        pairs: Task-irrelevant pairs, for ``socket`` and ``tgkt``.
        method: ``adabn``, ``shot``, ``socket`` or ``tgkt``; default ``socket`` with pairs, ``shot`` without.
        modality: Of the images.
        steps: Optimiser steps.
        seed: Same seed, same result to the bit on a CPU with as many threads.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        settings: Further keys of an experiment (configs/README.md), for example ``{"method": {"lr": 0.01}}``.
        on_step: Called with (steps done, steps).

    Raises:
        ConfigError: If a setting is not known.
        MethodError: If the method needs pairs and there are none, or losses are no longer finite.
        PrivacyError: If ``settings`` ask for differential privacy: only a site with its ledger can count it.
    """
    info, raw = release.info, {key: dict(value) for key, value in (settings or {}).items()}
    if "privacy" in raw or "site_privacy" in raw:
        raise PrivacyError(
            "differential privacy needs a ledger, which this function does not keep",
            where="settings",
            remedy="use socket-site adapt with a site.yaml",
        )
    data = {"modality": modality, "size": info.image_size, "mean": list(info.mean), "std": list(info.std)}
    chosen = method or ("socket" if pairs is not None else "shot")
    experiment = parse_experiment(
        {
            "name": "notebook",
            "seed": seed,
            "device": device,
            **raw,
            "data": {**data, **raw.get("data", {})},
            "network": {"backbone": info.backbone, "bottleneck_dim": info.bottleneck_dim},
            "method": {**raw.get("method", {}), "name": chosen},
            "federation": {"rounds": 1, "steps": steps, **raw.get("federation", {})},
        },
        where="settings",
    )
    network, source = release.network(), release.network()
    report = engine.adapt_alone(
        network, source, SiteData(images, pairs or _no_pairs(images)), experiment, "notebook", on_step=on_step
    )
    return Adapted(network.eval(), release, experiment, report)


def evaluate(adapted: Adapted, images: Images, labels: Sequence[int] | Index) -> Scores:
    """Accuracy, macro F1 and spread of the predictions on labelled images.

    Args:
        adapted: The network.
        images: ``N`` target images.
        labels: Positions in :attr:`Adapted.classes`, ``(N,)``.

    Returns:
        Shares between 0 and 1, and how many classes are predicted.

    Raises:
        DataError: If there are not as many labels as images.
    """
    data = Labelled(images, np.asarray(labels, dtype=np.int64))
    prep = Preprocessing.of(adapted.experiment.data)
    return evaluation.scores(evaluation.evaluate(adapted.network, data, prep, len(adapted.classes)))


def _files(paths: str | Path | Sequence[str | Path]) -> list[Path]:
    return files_below([Path(p) for p in ([paths] if isinstance(paths, str | Path) else paths)])


def _no_pairs(images: Images) -> Pairs:
    """Empty halves at the size of the images."""
    side = images.pixels.shape[1]
    rgb = Images(np.zeros((0, side, side, 3), np.uint8), 255.0)
    return Pairs(rgb, Images(images.pixels[:0], images.full_scale))
