"""``examples.png``: a line for each example, its RGB partner, the target image, and what a translator makes of it.

The images are held out and come from a simulation, where their RGB partners and classes are known. A deployed site
shows nobody an image.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from server.examples import RULE, chosen
from server.final_networks import ended
from server.image_colours import Pixels, as_rgb
from server.results import ExampleFacts
from server.sources import source_files
from socket_core.batchnorm import bn_mode
from socket_core.config import DataConfig, Experiment
from socket_core.data.catalogue import split_task
from socket_core.data.loader import Loader, Preprocessing
from socket_core.data.scenes import drawn, render
from socket_core.data.types import Images, Index, TransferTask
from socket_core.errors import SocketError
from socket_core.files import write_atomically
from socket_core.stages import bridge_rounds
from socket_core.translators import Bridge

RGB, TRANSLATED = "RGB", "translated"


def write_sheet(
    path: Path, home: Path, data: DataConfig, task: TransferTask, federated: Sequence[tuple[str, Experiment]]
) -> dict[str, Any]:
    """Writes the picture, and returns what a results file says of it (see :class:`server.results.ExampleFacts`).

    Args:
        path: The picture.
        home: Of the run.
        data: Of the comparison's own experiment.
        task: Its images.
        federated: Label and experiment of federations, in the order in which their translators are preferred: that
            of the first one that has one is shown.
    """
    index = chosen(task.target_test.labels, len(task.classes))
    target = task.target_test.images.take(index)
    columns: dict[str, list[Pixels]] = {data.modality: [as_rgb(target, i) for i in range(len(index))]}
    if (rgb := rgb_partners(data, task, index)) is not None:
        columns = {RGB: rgb} | columns
    found = next((f for label, e in federated if (f := _translated(home, label, e, task, target)) is not None), None)
    if found is not None:
        columns[TRANSLATED] = found[1]
    content = _png(np.concatenate([np.concatenate(tiles, axis=0) for tiles in columns.values()], axis=1))
    write_atomically(path, content)
    facts = ExampleFacts(
        rule=RULE,
        indices=index.tolist(),
        labels=task.target_test.labels[index].tolist(),
        columns=list(columns),
        translator=found[0] if found is not None else "",
        sha256=hashlib.sha256(content).hexdigest(),
    )
    return facts.model_dump()


def read_strips(path: Path, facts: ExampleFacts) -> list[bytes]:
    """A PNG for each example, all its tiles beside each other; nothing if this is not the picture meant.

    Args:
        path: The picture.
        facts: What the results file says of it.
    """
    try:
        content = path.read_bytes()
        if hashlib.sha256(content).hexdigest() != facts.sha256:
            return []
        pixels = np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))
    except (OSError, UnidentifiedImageError):
        return []
    return [_png(strip) for strip in np.split(pixels, len(facts.indices))] if facts.indices else []


def rgb_partners(data: DataConfig, task: TransferTask, index: Index) -> list[Pixels] | None:
    """RGB images of the same views as the held-out target images at ``index``; None where they are not known.

    Those of embedded scenes are rendered for this; those of files are among the owner's own test images.
    """
    if data.kind == "scenes":
        labels, stream = drawn("target_test", data.scenes.target_test, data.seed)
        views = render(labels[: int(index.max()) + 1], size=data.size, seed=stream)
        if not np.array_equal(views.of(data.modality).pixels[index], task.target_test.images.pixels[index]):
            return None
        return [as_rgb(views.of("rgb"), int(i)) for i in index]
    if task.partners is None or (task.partners[index] < 0).any():
        return None
    return [as_rgb(task.source_test.images, int(task.partners[i])) for i in index]


def _translated(
    home: Path, label: str, experiment: Experiment, task: TransferTask, target: Images
) -> tuple[str, list[Pixels]] | None:
    """Whose translator it is, and what it makes of ``target``; None without one."""
    if not bridge_rounds(experiment):
        return None
    try:
        left = ended(home, experiment, source_files(home, experiment))
        sites = experiment.federation.sites
        bridge = left.translator(lambda: split_task(task, experiment, sites)[0].data.tr) if left is not None else None
    except SocketError:  # damaged since: a tile less, and not the end of a comparison whose figures are there
        return None
    if bridge is None:
        return None
    return f"{label}, federated, seed {experiment.seed}", list(translate(bridge, target, experiment.data))


@torch.no_grad()
def translate(bridge: Bridge, images: Images, data: DataConfig) -> NDArray[np.uint8]:
    """What a translator makes of target images, as RGB bytes ``(N, H, W, 3)``.

    Args:
        bridge: The translator.
        images: N target images.
        data: Says how images are normalised.
    """
    loader = Loader(images, Preprocessing.of(data), torch.device("cpu"))
    with bn_mode(bridge, "frozen"):
        made = torch.cat([bridge.cpu()(x) for x in loader.chunks()])
    prep = Preprocessing.of(data, "rgb")
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (prep.mean, prep.std))
    shown: NDArray[np.uint8] = (255 * (made * std + mean).clamp(0, 1)).round().byte().permute(0, 2, 3, 1).numpy()
    return shown


def _png(pixels: NDArray[np.uint8]) -> bytes:
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, format="PNG", optimize=True)
    return out.getvalue()
