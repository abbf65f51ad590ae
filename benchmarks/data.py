"""From pixels to batches: images a second, and the share of data in a step."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from PIL import Image

from benchmarks.harness import Run, interleaved, ratio, share, spread
from benchmarks.naive_socket import read_batch
from benchmarks.record import Part, figure
from benchmarks.site_loop import SiteLoop
from benchmarks.subjects import RESNET18, TINY, experiment, images
from socket_core.data.loader import Loader, Preprocessing
from socket_core.data.types import Images

COUNT = 128
"""Images of an arm."""


def loader_arm(kept: Images, size: int) -> Callable[[], object]:
    """The product's: a batch of shifted and flipped images from pixels in memory."""
    cfg = experiment(TINY, data={"size": size}).data
    loader, rng = Loader(kept, Preprocessing.of(cfg), torch.device("cpu")), np.random.default_rng(0)
    return lambda: loader.batch(rng.permutation(COUNT), loader.draw(rng, COUNT))


def files_arm(kept: Images, size: int, folder: Path) -> Callable[[], object]:
    """The first implementation's: decodes PNG files, one image after the other."""
    folder.mkdir()
    paths = [folder / f"{i}.png" for i in range(len(kept))]
    for path, pixels in zip(paths, kept.pixels, strict=True):
        Image.fromarray(pixels).save(path)
    rng = np.random.default_rng(0)
    return lambda: read_batch(paths, size, rng)


def measure(run: Run) -> Part:
    """Images a second of both ways, then shares of a step."""
    rounds, figures = run.rounds(7, quick=2), []
    with TemporaryDirectory() as folder:
        arms: dict[str, Callable[[], object]] = {}
        for kind in ("RGB", "depth"):
            for size in (48, 96):
                kept = images(COUNT, size, rgb=kind == "RGB")
                arms[f"{kind} {size} px"] = loader_arm(kept, size)
                arms[f"{kind} {size} px, files"] = files_arm(kept, size, Path(folder) / f"{kind}-{size}")
        large = images(COUNT, 480)
        arms["depth 480 to 96 px, files"] = files_arm(large, 96, Path(folder) / "large")
        taken = interleaved(arms, rounds, tell=run.tell)
    for name in arms:
        rate = spread([COUNT / one[name] for one in taken])
        figures.append(figure(f"{name}: batches" if "files" not in name else name, rate, "images/s"))
    for name in [n for n in arms if "files" not in n]:
        figures.append(figure(f"{name}, files", ratio(taken, f"{name}, files", name), "x", "batches from memory"))
    for subject in (TINY,) if run.quick else (TINY, RESNET18):
        loop = SiteLoop(subject, 256, 128)
        steps = interleaved({"data": loop.draw, "step": loop.compute}, rounds, tell=run.tell)
        figures.append(figure(f"{subject}: data", share(steps, "data", ["step"]), "%", "step with its data", scale=100))
    return Part({"images": COUNT, "batch": "32 TR + 32 TI in a step", "rounds": rounds}, figures)
