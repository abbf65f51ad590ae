"""``results.json``: what was measured, by which command, on what. The schema is in ``docs/results.md``."""

from __future__ import annotations

import json
import os
import platform
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import BaseModel, TypeAdapter, ValidationError, model_validator

from server.by_site import AtSite
from server.examples import Said
from socket_core.errors import FederationError
from socket_core.files import write_atomically

SCHEMA_VERSION = 3
READABLE = (1, 2, 3)
"""Version 2 added label, prediction_entropy and partition, version 3 by_site and said; rows of earlier versions get
what the fields say below."""
Mode = Literal["unadapted", "local", "federated", "centralised"]
MODES: tuple[Mode, ...] = ("local", "federated", "centralised")
"""The columns of a table. Unadapted is none: one model, whoever holds it."""


@dataclass(frozen=True)
class Row:
    """One method, or a variant of one, in one mode with one seed.

    Attributes:
        method: Name of the method.
        mode: Who adapted: nobody, each site alone, the sites together, or one place with all data.
        seed: The experiment's seed.
        accuracy: On the common held-out target set, mean over sites, each under its own BatchNorm if local.
        worst_site: The lowest of these; equal to ``accuracy`` where there is one model.
        transductive: On the unlabelled target images that were adapted to, mean over sites (the papers' figure).
        macro_f1: Held out, of the summed confusion counts.
        classes_predicted: Fewest classes that any of the models predicts on the held-out set.
        collapsed: Whether the predictions of any model hold to few classes.
        curve: Held-out accuracy after each round; the first entry is before the first.
        confusion: Held-out counts summed over sites, true class by predicted.
        rounds: Rounds; the centralised arm has as many, each with the steps of all sites.
        steps: Optimiser steps, all sites together.
        visits: Images that gradient steps saw, all sites together (a TI pair counts once).
        bytes_up: Payload bytes from sites to owner in training, all rounds and sites.
        bytes_down: Payload bytes from owner to sites likewise, without the release.
        evaluation_bytes: Payload bytes of requests to test, without parameters, which count in ``bytes_down``.
        release_bytes: Payload bytes of the release, sent once to each site.
        seconds: Wall-clock time of the adaptation; cells run side by side, so not a benchmark.
        validator: Label-free score that chose the round; "none": the last round counts.
        kept_rounds: The round whose network was tested, of each model.
        oracle: Whether target labels were used to train or choose. Such a row is a bound, no result.
        epsilon: Of the whole job at each place, by the more cautious of two accountants; None without DP.
        epsilon_unit: Unit, adjacency and delta of it in words; "none" without DP.
        site_epsilon: Of the whole job for adding or removing one site, as the global models show it, with rounds that
            were done again; None without, and outside federations. Another unit: never to be added to ``epsilon``.
        site_epsilon_unit: As ``epsilon_unit``, and who adds the noise.
        label: What tables call it: the variant's name, or the method's, which is the default.
        prediction_entropy: Lowest over the models: entropy of the held-out predictions over that of evenly spread
            ones. None in results that were written before it was kept.
        partition: How the target images were spread over the sites; empty in results from before it was kept.
        by_site: Each site, in rows with a model for each; empty in others, and in results from before it was kept.
        said: What each model says of the example images; empty in results from before it was kept, and where a
            federation's networks are not there any more.

    Raises:
        ValueError: If ``by_site`` or ``said`` is about other classes than ``confusion``, or a site is there twice.
    """

    method: str
    mode: Mode
    seed: int
    accuracy: float
    worst_site: float
    transductive: float
    macro_f1: float
    classes_predicted: int
    collapsed: bool
    curve: tuple[float, ...]
    confusion: tuple[tuple[int, ...], ...]
    rounds: int = 0
    steps: int = 0
    visits: int = 0
    bytes_up: int = 0
    bytes_down: int = 0
    evaluation_bytes: int = 0
    release_bytes: int = 0
    seconds: float = 0.0
    oracle: bool = False
    validator: str = "none"
    kept_rounds: tuple[int, ...] = ()
    epsilon: float | None = None
    epsilon_unit: str = "none"
    site_epsilon: float | None = None
    site_epsilon_unit: str = "none"
    label: str = ""
    prediction_entropy: float | None = None
    partition: str = ""
    by_site: tuple[AtSite, ...] = ()
    said: tuple[Said, ...] = ()

    def __post_init__(self) -> None:
        if not self.label:
            object.__setattr__(self, "label", self.method)
        classes = len(self.confusion)
        for place in self.by_site:
            if len(place.images) != classes:
                raise ValueError(f"site {place.site}: {len(place.images)} classes, confusion has {classes}")
        if len({place.site for place in self.by_site}) != len(self.by_site):
            raise ValueError("a site is there twice")
        if any(not 0 <= k < classes for one in self.said for k in one.predicted):
            raise ValueError(f"expected predictions of classes 0 to {classes - 1}")


def environment(command: str) -> dict[str, Any]:
    """Command, versions and hardware behind the numbers."""
    return {
        "command": command,
        "python": platform.python_version(),
        "packages": {name: version(name) for name in ("socket-fl", "flwr", "torch", "torchvision", "numpy")},
        "device": torch.cuda.get_device_name(0) if torch.cuda.is_available() else "cpu",
        "machine": platform.machine(),
        "cpus": os.cpu_count(),
    }


def write_results(path: Path, rows: Sequence[Row], *, experiment: dict[str, Any], facts: dict[str, Any]) -> None:
    """Writes the results file, whole or not at all.

    Args:
        path: The file.
        rows: What was measured.
        experiment: The experiment without method and seed, as plain values.
        facts: From :func:`environment`, and whatever else describes the run.
    """
    content = {
        "schema_version": SCHEMA_VERSION,
        "oracle": any(row.oracle for row in rows),
        **facts,
        "experiment": experiment,
        "rows": [asdict(row) for row in rows],
    }
    write_atomically(path, (json.dumps(content, indent=1) + "\n").encode())


def read_results(path: Path) -> tuple[list[Row], dict[str, Any]]:
    """Rows and the rest of a results file.

    Raises:
        FederationError: If it is missing, not JSON, of another schema version, or not of a comparison.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise FederationError(
            f"cannot read results ({type(error).__name__})",
            where=str(path),
            remedy="run socket-owner compare to make them",
        ) from None
    version = content.get("schema_version") if isinstance(content, dict) else None
    if version not in READABLE:
        raise FederationError(
            f"results schema {version}, this build reads {READABLE[0]} to {READABLE[-1]}",
            where=str(path),
            remedy="use the version that wrote them, or run the comparison again",
        )
    try:
        found = _Content.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        raise FederationError(
            f"not the results of a comparison: {first['msg']}",
            where=f"{path}, {'.'.join(map(str, first['loc']))}",
            remedy="give a results.json that socket-owner compare wrote",
        ) from None
    del content["rows"]
    return found.rows, content


class ExampleFacts(BaseModel):
    """Which held-out images the rows' ``said`` is about, and what the picture beside the results file shows.

    Attributes:
        rule: How they were chosen.
        indices: Their positions in the held-out set, ``(E,)``.
        labels: Their true classes, ``(E,)``.
        columns: What the tiles of a line of ``examples.png`` are; a line for each example.
        translator: Whose translator made the translated tiles; empty without any.
        sha256: Of ``examples.png``: another picture of that name is not taken for it.
    """

    rule: str
    indices: list[int]
    labels: list[int]
    columns: list[str]
    translator: str = ""
    sha256: str = ""

    @model_validator(mode="after")
    def _as_many_labels(self) -> ExampleFacts:
        if len(self.indices) != len(self.labels):
            raise ValueError(f"{len(self.indices)} examples, {len(self.labels)} labels")
        return self


class _Content(BaseModel):
    """What readers of a results file rely on."""

    rows: list[Row]
    command: str = ""
    modality: str = ""
    classes: list[str] = []
    packages: dict[str, str] = {}
    experiment: dict[str, Any] = {}
    variants: dict[str, dict[str, Any]] = {}
    examples: ExampleFacts | None = None

    @model_validator(mode="after")
    def _examples_fit(self) -> _Content:
        count = len(self.examples.indices) if self.examples is not None else 0
        for row in self.rows:
            if any(len(one.predicted) != count for one in row.said):
                raise ValueError(f"{row.label}, {row.mode}: predictions of other than the {count} examples")
        if self.examples is not None and any(not 0 <= k < len(self.classes) for k in self.examples.labels):
            raise ValueError(f"expected examples of classes 0 to {len(self.classes) - 1}")
        return self


def row_from(values: dict[str, Any]) -> Row:
    """A row from JSON values.

    Raises:
        ValidationError: If a value is missing or of another type.
    """
    return _ROW.validate_python(values)


_ROW = TypeAdapter(Row)


def mean_and_spread(values: Sequence[float]) -> tuple[float, float | None]:
    """Mean and sample standard deviation; None as the spread of a single value."""
    return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None
