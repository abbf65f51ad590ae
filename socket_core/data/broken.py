"""Which files of a data set cannot be used: every one is decoded, and the halves of pairs are compared."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection
from pathlib import Path

import PIL

from socket_core.data.decode import DECODE_VERSION, Progress, decode
from socket_core.data.index import DataIndex, Skipped, View
from socket_core.data.types import Modality
from socket_core.errors import DataError


def find_broken(index: DataIndex, modality: Modality, progress: Progress | None = None) -> tuple[list[Skipped], int]:
    """Decodes every file of the index.

    Args:
        index: What lies on disk.
        modality: What the target files are.
        progress: Called as ``progress(done, total)``, in files.

    Returns:
        The files that cannot be used; and the bits a pixel of the target files that can, 0 if there are none.
        Where target files differ in bits, those with the rarer number cannot be used.
    """
    found: list[Skipped] = []
    depths: dict[int, list[Path]] = {8: [], 16: []}
    total, done = sum(len(view.files) for view in index.views), 0
    for view in index.views:
        broken, bits = _faults(view, index, modality)
        found += broken
        if view.target is not None and bits:
            depths[bits].append(view.target)
        done += len(view.files)
        if progress is not None:
            progress(done, total)
    rare, common = sorted(depths, key=lambda bits: (len(depths[bits]), -bits))
    reason = f"{rare} bits a pixel, while {len(depths[common])} others have {common}"
    found += [(path, reason) for path in depths[rare]]
    return found, common if depths[common] else 0


def _faults(view: View, index: DataIndex, modality: Modality) -> tuple[list[Skipped], int]:
    """The unusable files of one view, and the bits a pixel of its target if that can be used."""
    found: list[Skipped] = []
    sizes, bits = [], 0
    for path in view.files:
        kind: Modality = "rgb" if path == view.rgb else modality
        try:
            pixels = decode(path, kind, index.stored)
        except DataError as error:
            found.append((path, error.what))
            continue
        sizes.append((pixels.shape[1], pixels.shape[0]))
        bits = bits if kind == "rgb" else pixels.dtype.itemsize * 8
    if len(set(sizes)) == 2:
        (width, height), (other_width, other_height) = sizes
        reason = f"the halves differ in size: RGB {width}x{height}, {modality} {other_width}x{other_height}"
        return [(path, reason) for path in view.files], 0
    return found, bits


def leave_out_broken(
    index: DataIndex,
    modality: Modality,
    task: Collection[str],
    *,
    cache: Path | None = None,
    progress: Progress | None = None,
) -> DataIndex:
    """The index less the views with an unusable file, and less halves outside the task that have no partner.

    Args:
        index: What lies on disk.
        modality: What the target files are.
        task: The task's classes, whose images need no partner.
        cache: Folder in which to remember the outcome while files, sizes and times stay as they are.
        progress: Called as ``progress(done, total)``, in files.

    Raises:
        DataError: Every view has an unusable file.
    """
    memory = _memory(index, modality, cache) if cache is not None else None
    broken = _recall(memory) if memory is not None else None
    if broken is None:
        broken, _ = find_broken(index, modality, progress)
        if memory is not None:
            memory.parent.mkdir(parents=True, exist_ok=True)
            memory.write_text(json.dumps([[str(path), reason] for path, reason in broken]), encoding="utf-8")
    usable = index.without(broken).without(index.unpaired(task))
    if not usable.views:
        raise DataError(
            f"expected usable images, found {len(usable.skipped)} files with faults and no other",
            where=str(index.root),
            remedy="socket-site check --data lists the faults",
        )
    return usable


def _memory(index: DataIndex, modality: Modality, cache: Path) -> Path:
    """Where the outcome is kept; another name as soon as any file, its size or its time changes."""
    files = []
    for view in index.views:
        for path in view.files:
            stat = path.stat()
            files.append([str(path), stat.st_size, stat.st_mtime_ns, path == view.rgb])
    text = json.dumps([DECODE_VERSION, PIL.__version__, modality, *index.stored.key, files])
    return cache / f"broken-{hashlib.sha256(text.encode()).hexdigest()}.json"


def _recall(memory: Path) -> list[Skipped] | None:
    try:
        return [(Path(path), str(reason)) for path, reason in json.loads(memory.read_text(encoding="utf-8"))]
    except (OSError, ValueError, TypeError):
        return None
