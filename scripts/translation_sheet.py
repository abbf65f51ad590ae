"""Draws what a trained translator makes of the embedded scenes: target image, translation, true RGB.

TI pairs come from those that no site trained with, where there are enough; of the task's classes, views of the test
set are shown. Their RGB images are rendered for this picture: adaptation never sees one.

Usage: ``python scripts/translation_sheet.py RUN_HOME --job demo-tgkt-seed0 [--out docs/img/translation-depth.png]``
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import safe_open
from torch import Tensor

from server.image_colours import Pixels, as_rgb
from server.sources import source_files
from socket_core.batchnorm import bn_layers, bn_mode
from socket_core.combined import combine, combined_digest
from socket_core.config import load_experiment
from socket_core.data.catalogue import load_task, site_name, split_task
from socket_core.data.loader import Loader, Preprocessing
from socket_core.data.scenes import CLASSES, drawn, render
from socket_core.data.types import Images, Index, Pairs
from socket_core.engine import make_bridge
from socket_core.errors import ConfigError, FederationError, SocketError
from socket_core.exchange import bridge_specs, load_flat
from socket_core.methods.base import reestimate_batchnorm
from socket_core.models import Model
from socket_core.seeds import derive_seed
from socket_core.ti_pairs import split_probe
from socket_core.translators import Bridge

CPU = torch.device("cpu")


@dataclass(frozen=True)
class View:
    """One view: three images ``(S, S, 3)``, its class, and what the source says of the last two."""

    target: Pixels
    translated: Pixels
    rgb: Pixels
    label: str
    said: tuple[str, str]


@dataclass(frozen=True)
class Sheet:
    """What is drawn.

    Attributes:
        ti: Views of TI pairs, each of another class as far as there are any.
        unseen: Whether these pairs were kept out of training.
        tr: Views of the test set.
        modality: Of the target images.
    """

    ti: list[View]
    unseen: bool
    tr: list[View]
    modality: str


class Translator:
    """Source and translator of a finished or unfinished job.

    Raises:
        ConfigError: If the job is not there, or not about the embedded scenes.
        FederationError: If it shares no translator, or its checkpoint is of another source.
    """

    def __init__(self, home: Path, job: str) -> None:
        self.experiment = experiment = load_experiment(home / "experiments" / f"{job}.yaml")
        if experiment.data.kind != "scenes" or experiment.data.ti_from == "folder":
            raise ConfigError("this sheet is about the embedded scenes", where=job, remedy="give a job on them")
        releases = source_files(home, experiment).read()
        self.source: Model = combine(releases)
        self.classes = releases[0].info.classes
        folder = home / job / "federated" / "checkpoints"
        flat = _newest_bridge(folder, combined_digest([release.info.digest for release in releases]))
        bridge = make_bridge(experiment, self.source)
        if bridge is None or flat is None:
            raise FederationError(
                "no translator in the newest checkpoint",
                where=str(folder),
                remedy="give a federated tgkt job with translator.exchange shared",
            )
        load_flat(bridge, flat, bridge_specs(bridge))
        self.bridge: Bridge = bridge.eval()

    @torch.no_grad()
    def translate(self, images: Images) -> Tensor:
        """Source-like RGB ``(N, 3, H, W)`` as the source takes it."""
        loader = Loader(images, Preprocessing.of(self.experiment.data), CPU)
        with bn_mode(self.bridge, "frozen"):
            return torch.cat([self.bridge(x) for x in loader.chunks()])

    @torch.no_grad()
    def views(self, target: Images, rgb: Images, labels: Sequence[str]) -> list[View]:
        """What to draw of N views with aligned halves."""
        prep, translated = Preprocessing.of(self.experiment.data, "rgb"), self.translate(target)
        true = Loader(rgb, prep, CPU).batch(np.arange(len(rgb)))
        said = [[self.classes[int(k)] for k in self.source(x).argmax(1)] for x in (translated, true)]
        mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (prep.mean, prep.std))
        shown = (255 * (translated * std + mean).clamp(0, 1)).round().byte().permute(0, 2, 3, 1).numpy()
        return [
            View(as_rgb(target, i), shown[i], rgb.pixels[i].astype(np.uint8), labels[i], (said[0][i], said[1][i]))
            for i in range(len(labels))
        ]


def collect(home: Path, job: str, cache: Path | None, *, pairs: int = 8, views: int = 4) -> Sheet:
    """The views to draw, the same for the same job.

    Args:
        home: Folder of the run.
        job: Name of the job, as its folder is called.
        cache: Folder of rendered scenes; None renders them anew and keeps nothing.
        pairs: How many TI pairs, at most.
        views: How many views of the test set, at most.
    """
    translator = Translator(home, job)
    experiment = translator.experiment
    data = experiment.data
    task = load_task(data, cache=cache)
    sites = [share.data for share in split_task(task, experiment, experiment.federation.sites)]
    if bn_layers(translator.bridge):  # its statistics are each site's own; here the first one's
        reestimate_batchnorm(translator.bridge, Loader(sites[0].tr, Preprocessing.of(data), CPU))
    unused = [
        site.ti.take(split_probe(len(site.ti), derive_seed(experiment.seed, site_name(i), "ti probe"))[1])
        for i, site in enumerate(sites)
    ]
    unseen = experiment.method.trust == "agreement" and sum(map(len, unused)) >= pairs
    pool = _join(unused) if unseen else task.ti
    # Pairs carry no label; which scene it is tells the class.
    labels, _ = drawn("ti", data.scenes.ti, data.seed)
    whole = load_task(data.model_copy(update={"ti_fraction": 1.0}), cache=cache).ti.rgb.pixels
    known = {image.tobytes(): int(label) for image, label in zip(whole, labels, strict=True)}
    chosen = pool.take(_spread(np.array([known[image.tobytes()] for image in pool.rgb.pixels]), pairs))
    names = [CLASSES[known[image.tobytes()]] for image in chosen.rgb.pixels]
    ti = translator.views(chosen.target, chosen.rgb, names)

    labels, stream = drawn("target_test", data.scenes.target_test, data.seed)
    first = _spread(labels, views)
    rendered = render(labels[: first.max() + 1], size=data.size, seed=stream)
    target = task.target_test.images.take(first)
    if not np.array_equal(rendered.of(data.modality).pixels[first], target.pixels):
        raise ConfigError("the rendered views are not those of the test set", where=job)
    tr = translator.views(target, rendered.of("rgb").take(first), [CLASSES[k] for k in labels[first]])
    return Sheet(ti, unseen, tr, data.modality)


def draw(sheet: Sheet, out: Path) -> None:
    """Writes the picture: TI pairs in two columns, views of the test set in a third."""
    rows = -(-len(sheet.ti) // 2)
    columns = [sheet.ti[:rows], sheet.ti[rows:], sheet.tr]
    rows = max(map(len, columns))
    figure, axes = plt.subplots(
        rows, 3, figsize=(9.6, 0.35 + 1.08 * rows), dpi=100, layout="constrained", squeeze=False
    )
    for axis in axes.flat:
        axis.axis("off")
    for k, column in enumerate(columns):
        for axis, view in zip(axes[:, k], column, strict=False):
            size = len(view.rgb)
            axis.imshow(np.concatenate([view.target, view.translated, view.rgb], axis=1), interpolation="nearest")
            axis.text(size / 2, size + 1, view.label, ha="center", va="top", fontsize=8, weight="bold")
            right = view.label if k == 2 else view.said[1]
            for i, said in enumerate(view.said):
                colour = "tab:green" if said == right else "tab:red"
                axis.text((1.5 + i) * size, size + 1, said, ha="center", va="top", fontsize=8, color=colour)
        for i, heading in enumerate((sheet.modality, "translated", "true RGB")):
            axes[0, k].text((0.5 + i) * size, -2, heading, ha="center", va="bottom", fontsize=8, color="dimgrey")
        kind = "task's classes, test views" if k == 2 else f"TI pairs{', not trained with' if sheet.unseen else ''}"
        axes[0, k].set_title(kind, fontsize=9, pad=14)
    figure.supxlabel(
        "Bold: the class. Coloured: what the source model says of this image, green if it says so of the true RGB "
        "(TI) or is right (test views).\nTrue RGB of test views is rendered for this picture; no adaptation sees it.",
        fontsize=7.5,
    )
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out, pil_kwargs={"optimize": True}, metadata={"Software": None})
    plt.close(figure)


def _newest_bridge(folder: Path, release_digest: str) -> NDArray[np.float32] | None:
    """The translator's flat parameters. Settings may have gained keys since: only the source has to be the same."""
    files = sorted(folder.glob("round-*.safetensors"))
    if not files:
        raise ConfigError("no checkpoint", where=str(folder), remedy="give the home of a run and the name of its job")
    with safe_open(files[-1], framework="numpy") as file:
        if (file.metadata() or {}).get("release_digest") != release_digest:
            raise FederationError("the checkpoint belongs to another release", where=str(files[-1]))
        return file.get_tensor("bridge") if "bridge" in file.keys() else None  # noqa: SIM118 (not a dict)


def _spread(labels: Index, count: int) -> Index:
    """Positions of the first ``count`` images when classes take turns, sorted by class."""
    turn = np.array([int((labels[:i] == label).sum()) for i, label in enumerate(labels)])
    first = np.lexsort((labels, turn))[:count]
    return np.asarray(first[np.argsort(labels[first], kind="stable")], dtype=np.int64)


def _join(parts: Sequence[Pairs]) -> Pairs:
    rgb = Images(np.concatenate([part.rgb.pixels for part in parts]), 255.0)
    target = np.concatenate([part.target.pixels for part in parts])
    return Pairs(rgb, Images(target, parts[0].target.full_scale))


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("home", type=Path, help="folder of a run, as given to --out of socket-owner compare")
    parser.add_argument("--job", required=True, help="such as demo-tgkt-seed0")
    parser.add_argument("--out", type=Path, default=Path("docs/img/translation-depth.png"))
    parser.add_argument("--cache", type=Path, default=Path(".cache/images"))
    args = parser.parse_args(arguments)
    try:
        draw(collect(args.home, args.job, args.cache), args.out)
    except SocketError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    print(f"wrote {args.out} ({args.out.stat().st_size // 1024} kB)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
