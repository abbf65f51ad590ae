"""``socket-site check --data``: what a data set holds, before anything is trained on it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress

from socket_core.config import DataConfig, load_experiment, parse_experiment
from socket_core.data.survey import Survey, survey
from socket_core.errors import ConfigError, DataError


def check_data(root: Path, config: Path | None, *, kind: str, modality: str, skip_broken: bool, as_json: bool) -> None:
    """Prints what the data set holds and which files cannot be used.

    Args:
        root: The data set.
        config: An experiment whose ``data`` section describes it; None for the kind's defaults.
        kind: Its layout; empty for the experiment's.
        modality: Of its target images; empty for the experiment's or the kind's.
        skip_broken: Whether files that cannot be used are no error.
        as_json: Print JSON.

    Raises:
        ConfigError: Nothing says which layout it is.
        DataError: After the report: files cannot be used, or a class of the task is empty.
    """
    data = _section(root, config, kind, modality)
    with Progress(console=Console(stderr=True)) as bar:
        task = bar.add_task("decoding", total=None)
        found = survey(data, lambda done, total: bar.update(task, completed=done, total=total))
    print(json.dumps(found.plain()) if as_json else "\n".join(_lines(found, skip_broken)))
    if found.lacking:
        raise DataError(
            f"expected RGB and {found.modality} images of every class of the task, found none for "
            f"{', '.join(found.lacking)}",
            where=found.root,
            remedy="add images, or correct data.classes",
        )
    if found.skipped and not skip_broken:
        raise DataError(
            f"{len(found.skipped)} files cannot be used; the first: {found.skipped[0][0]}: {found.skipped[0][1]}",
            where=found.root,
            remedy="mend or remove them, or leave them out: --skip-broken here, data.skip_broken in an experiment",
        )


def _section(root: Path, config: Path | None, kind: str, modality: str) -> DataConfig:
    given: dict[str, Any] = {"root": str(root.expanduser().resolve())}
    given |= {key: value for key, value in (("kind", kind), ("modality", modality)) if value}
    if config is None:
        given = ({"modality": "nir"} if kind == "epfl_nir" else {}) | given
        data = parse_experiment({"data": given}, where="socket-site check").data
    else:
        data = load_experiment(config, {f"data.{key}": value for key, value in given.items()}).data
    if data.kind == "scenes":
        raise ConfigError(
            "expected the layout of the data set, found none",
            where="--kind",
            remedy="pass --kind folder, lists, sunrgbd, diml or epfl_nir, or --config with an experiment on such data",
        )
    return data


def _lines(found: Survey, skip_broken: bool) -> list[str]:
    lines = [
        f"{found.kind} in {found.root}",
        "",
        f"{'class':28} {'':5} {'split':10} {'rgb':>6} {found.modality:>6} pairs",
    ]
    for label, splits in found.classes.items():
        role = ("task" if label in found.task else "other") if found.task else ""
        for split, count in splits.items():
            lines.append(f"{label:28} {role:5} {split:10} {count['rgb']:6} {count['target']:6} {count['pairs']:5}")
    lines += [
        "",
        f"classes                  {len(found.classes)}" + (f", {len(found.task)} in the task" if found.task else ""),
        f"{'pairs outside the task' if found.task else 'pairs':24} {found.pairs}",
        f"without other half       {found.unpaired}",
        f"bits of {found.modality:16} {found.bits}",
    ]
    lines += [f"sensor {name:17} {count} views" for name, count in found.sensors.items()]
    lines.append(f"{'left out' if skip_broken else 'broken':24} {len(found.skipped)} files")
    return lines + [f"  {path}: {reason}" for path, reason in found.skipped]
