"""The embedded data: small rendered scenes with aligned RGB, depth and near-infrared images.

The class of a scene is the geometry of the solid in it and nothing else. Texture, colour, light, pose,
scale, position and the room are drawn without knowing the class. An image depends only on the seed, its
index, its label and its size, so that asking for more images never changes the first ones.

The scenes are frozen (docs/adr/0005-embedded-scenes.md): what they look like is never changed so that one
method looks better than another.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from socket_core.data import scenes_cache
from socket_core.data import scenes_sensors as sensors
from socket_core.data.scenes_geometry import SOLIDS
from socket_core.data.scenes_layout import UNIFORMS, layout
from socket_core.data.scenes_view import see
from socket_core.data.types import Images, Index, Labelled, Modality, Pairs, TransferTask
from socket_core.errors import ConfigError, DataError
from socket_core.seeds import derive_seed

CLASSES: tuple[str, ...] = tuple(solid.name for solid in SOLIDS)
TASK_RELEVANT = CLASSES[:8]
TASK_IRRELEVANT = CLASSES[8:]

DEPTH_FULL_SCALE: float = 1000.0 * sensors.FARTHEST
"""Millimetres that map to 1.0: the end of the depth camera's range."""

Progress = Callable[[int, int], None]

_VERSION = 1  # of what the pixels look like: raising it makes every cache render again
_SIZES = range(48, 65)
_CHUNK_PIXELS = 150_000  # about 100 MB of working memory


@dataclass(frozen=True)
class Rendered:
    """The same N scenes through three sensors, aligned pixel by pixel.

    Attributes:
        rgb: ``(N, S, S, 3)`` uint8.
        depth: ``(N, S, S)`` uint16, millimetres along the optical axis, 0 where unknown.
        nir: ``(N, S, S)`` uint8, active near-infrared intensity.
    """

    rgb: NDArray[np.uint8]
    depth: NDArray[np.uint16]
    nir: NDArray[np.uint8]

    def of(self, modality: Modality) -> Images:
        """The images of one modality."""
        if modality == "depth":
            return Images(self.depth, DEPTH_FULL_SCALE)
        return Images(self.rgb if modality == "rgb" else self.nir, 255.0)


def render(labels: Index, *, size: int, seed: int, progress: Progress | None = None) -> Rendered:
    """Renders one scene a label; scene i depends on ``(seed, i, labels[i], size)`` alone.

    Args:
        labels: Indices into :data:`CLASSES`, ``(N,)``.
        size: Pixels a side, 48 to 64.
        seed: Any integer from 0.
        progress: Called with (images done, images in all).

    Raises:
        ConfigError: If the size or seed is out of range.
        DataError: If a label is no class.
    """
    _check(size, seed)
    labels = np.asarray(labels)
    if labels.ndim != 1 or labels.dtype.kind not in "iu":
        raise DataError(f"expected integer labels of shape (N,), found {labels.dtype} {labels.shape}", where="labels")
    wrong = np.flatnonzero((labels < 0) | (labels >= len(CLASSES)))
    if len(wrong):
        raise DataError(
            f"expected classes 0 to {len(CLASSES) - 1}, found {labels[wrong[0]]}",
            where=f"labels[{wrong[0]}]",
            remedy="use indices into socket_core.data.scenes.CLASSES",
        )
    n = len(labels)
    out = Rendered(
        np.empty((n, size, size, 3), np.uint8),
        np.empty((n, size, size), np.uint16),
        np.empty((n, size, size), np.uint8),
    )
    chunk = _CHUNK_PIXELS // (size * size)
    for first in range(0, n, chunk):
        part = slice(first, min(first + chunk, n))
        _render_chunk(labels[part].astype(np.int64), part, size, seed, out)
        if progress is not None:
            progress(part.stop, n)
    return out


def _check(size: int, seed: int) -> None:
    if size not in _SIZES:
        raise ConfigError(
            f"scenes are {_SIZES[0]} to {_SIZES[-1]} pixels a side, found {size}",
            where="size",
            remedy="choose a size in this range, or use a folder of images",
        )
    if seed < 0:
        raise ConfigError(f"expected a seed of 0 or more, found {seed}", where="seed", remedy="use any other integer")


def _render_chunk(labels: Index, part: slice, size: int, seed: int, out: Rendered) -> None:
    count, pixels = len(labels), size * size
    uniforms = np.empty((count, UNIFORMS))
    normal = np.empty((count, sensors.NORMALS, pixels), np.float32)
    chance = np.empty((count, pixels), np.float32)
    for i in range(count):
        stream = np.random.SeedSequence(seed, spawn_key=(part.start + i,))
        rng = np.random.Generator(np.random.PCG64(stream))
        uniforms[i] = rng.random(UNIFORMS)
        rng.standard_normal(dtype=np.float32, out=normal[i])
        rng.random(dtype=np.float32, out=chance[i])
    scene = layout(uniforms)
    view = see(scene, labels, size)
    out.rgb[part] = sensors.colour(scene, view, normal[:, :3], size)
    out.nir[part] = sensors.infrared(scene, view, normal[:, 3], size)
    out.depth[part] = sensors.depth(scene, view, normal[:, 4], chance, size)


def _balanced(count: int, classes: int, seed: int) -> Index:
    """Labels in shuffled rounds of all classes: counts differ by one at most, and a prefix stays the same."""
    rng = np.random.default_rng(derive_seed(seed, "labels"))
    rounds = [rng.permutation(classes) for _ in range(-(-count // classes))]
    return np.concatenate([*rounds, np.empty(0, np.int64)])[:count].astype(np.int64)


def drawn(name: str, count: int, seed: int) -> tuple[Index, int]:
    """Labels of a set of :func:`load_scenes`, ``(count,)`` into :data:`CLASSES`, and its seed for :func:`render`."""
    stream = derive_seed(seed, "scenes", name)
    if name == "ti":
        return len(TASK_RELEVANT) + _balanced(count, len(TASK_IRRELEVANT), stream), stream
    return _balanced(count, len(TASK_RELEVANT), stream), stream


def load_scenes(
    *,
    size: int,
    modality: Modality,
    source_train: int,
    source_test: int,
    target_train: int,
    target_test: int,
    ti: int,
    seed: int,
    cache: Path | None,
    progress: Progress | None = None,
) -> TransferTask:
    """A transfer task from RGB to ``modality``; no scene is in two of its sets.

    Args:
        size: Pixels a side, 48 to 64.
        modality: ``"depth"`` or ``"nir"``.
        source_train: Labelled RGB images of the owner, all classes together, as are all counts.
        source_test: RGB images held out from source training.
        target_train: Task-relevant target images.
        target_test: Held-out target images.
        ti: Task-irrelevant RGB-target pairs.
        seed: Any integer from 0; each set has its own stream.
        cache: Folder to keep rendered sets in, by their parameters; None keeps nothing.
        progress: Called with (scenes done, scenes in all), not at all if the cache has everything.

    Raises:
        ConfigError: If a parameter is out of range.
    """
    _check(size, seed)
    if modality not in ("depth", "nir"):
        raise ConfigError(
            f"scenes have the target modalities depth and nir, found {modality!r}",
            where="modality",
            remedy="use depth or nir",
        )
    counts = {
        "source_train": source_train,
        "source_test": source_test,
        "target_train": target_train,
        "target_test": target_test,
        "ti": ti,
    }
    for name, count in counts.items():
        if count < 1:
            raise ConfigError(f"expected 1 or more images, found {count}", where=name, remedy="raise the count")

    def make() -> scenes_cache.Arrays:
        return _make(counts, modality, size, seed, progress)

    key: scenes_cache.Key = {"version": _VERSION, "modality": modality, "size": size, "seed": seed, **counts}
    arrays = make() if cache is None else scenes_cache.load(cache, key, make)

    def images(name: str, kind: Modality) -> Images:
        return Images(arrays[f"{name}.{kind}"], DEPTH_FULL_SCALE if kind == "depth" else 255.0)

    def labelled(name: str, kind: Modality) -> Labelled:
        return Labelled(images(name, kind), arrays[f"{name}.labels"])

    return TransferTask(
        classes=TASK_RELEVANT,
        source_train=labelled("source_train", "rgb"),
        source_test=labelled("source_test", "rgb"),
        target_train=labelled("target_train", modality),
        target_test=labelled("target_test", modality),
        ti=Pairs(images("ti", "rgb"), images("ti", modality)),
    )


def _shift(progress: Progress | None, before: int, total: int) -> Progress | None:
    return None if progress is None else lambda done, _: progress(before + done, total)


def _make(
    counts: dict[str, int], modality: Modality, size: int, seed: int, progress: Progress | None
) -> scenes_cache.Arrays:
    """All arrays of a task, by ``set.modality`` and ``set.labels``; only the modalities that the task uses."""
    arrays: scenes_cache.Arrays = {}
    before, total = 0, sum(counts.values())
    for name, count in counts.items():
        labels, stream = drawn(name, count, seed)
        images = render(labels, size=size, seed=stream, progress=_shift(progress, before, total))
        before += count
        if name != "ti":
            arrays[f"{name}.labels"] = labels
        if name.startswith(("source", "ti")):
            arrays[f"{name}.rgb"] = images.rgb
        if name.startswith(("target", "ti")):
            arrays[f"{name}.{modality}"] = images.depth if modality == "depth" else images.nir
    return arrays
