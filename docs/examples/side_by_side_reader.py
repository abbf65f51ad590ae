"""A reader of one's own: RGB and depth side by side in one folder of a class (see docs/add-a-data-set.md).

``<root>/<split>/<class>/<id>_rgb.png`` and ``<id>_depth.png``. A reader opens no image: it lists what is there.
"""

from __future__ import annotations

from pathlib import Path

from socket_core.config import DataConfig
from socket_core.data.index import DataIndex, Faults, View, is_image
from socket_core.data.readers import register
from socket_core.errors import DataError


@register("side_by_side")
def build_index(cfg: DataConfig, root: Path, faults: Faults) -> DataIndex:
    """Lists the views of the splits that the experiment names, sorted by split, class and id."""
    target = f"_{cfg.target_folder or cfg.modality}"  # one key of the section serves as the ending
    views = []
    for split in dict.fromkeys((cfg.train_split, cfg.test_split, *cfg.ti_splits)):
        if not (root / split).is_dir():
            raise DataError("expected a folder of classes", where=str(root / split), remedy="see data.train_split")
        for folder in sorted(path for path in (root / split).iterdir() if path.is_dir()):
            files = {path.stem: path for path in sorted(folder.iterdir()) if is_image(path)}
            for stem, path in files.items():
                if not stem.endswith(("_rgb", target)):
                    faults.report("its name says neither half", where=path, remedy=f"end it in _rgb or {target}")
            for name in sorted({stem.removesuffix("_rgb").removesuffix(target) for stem in files}):
                view = View(name, folder.name, split, rgb=files.get(f"{name}_rgb"), target=files.get(name + target))
                views += [view] if view.files else []
    return DataIndex(root, tuple(views), paired=False).without(faults.found)
