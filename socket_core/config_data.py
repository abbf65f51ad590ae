"""The ``data`` section of an experiment."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from socket_core import own_names
from socket_core.config_section import Section


class ScenesCounts(Section):
    """How many scenes are rendered for each part; totals over the classes."""

    source_train: int = Field(2400, ge=8, description="the owner's RGB images")
    source_test: int = Field(800, ge=8, description="RGB images held out")
    target_train: int = Field(1600, ge=8, description="target images of all sites together")
    target_test: int = Field(800, ge=8, description="target images held out, common to all")
    ti: int = Field(1200, ge=1, description="TI pairs of all sites together")


class ListFiles(Section):
    """Names of list files, relative to ``data.root``; each line is a path and a class number."""

    source_train: str = Field("", description="RGB images that the owner trains on")
    source_test: str = Field("", description="RGB images held out")
    target_train: str = Field("", description="target images to adapt to; numbers serve reports and the oracle")
    target_test: str = Field("", description="target images held out")
    ti_rgb: str = Field("", description="RGB halves of the pairs; numbers are not read")
    ti_target: str = Field("", description="their other halves, in the same order")


def _channels(value: Any) -> tuple[float, float, float]:
    """One number for all three channels, or three numbers."""
    three = (value,) * 3 if isinstance(value, int | float) else value
    numbers = isinstance(three, list | tuple) and all(
        isinstance(x, int | float) and not isinstance(x, bool) and math.isfinite(x) for x in three
    )
    if not numbers or len(three) != 3:
        raise ValueError("expected a finite number, or three for red, green and blue")
    return float(three[0]), float(three[1]), float(three[2])


def _positive_channels(value: Any) -> tuple[float, float, float]:
    three = _channels(value)
    if min(three) <= 0:
        raise ValueError("expected numbers above 0")
    return three


Channels = Annotated[tuple[float, float, float], BeforeValidator(_channels)]
PositiveChannels = Annotated[tuple[float, float, float], BeforeValidator(_positive_channels)]
DataKind = Literal["scenes", "folder", "lists", "sunrgbd", "diml", "epfl_nir"]
"""Those of the product, for type checkers."""
KnownKind = Annotated[DataKind, *own_names.or_own(own_names.READERS)]
"""Those, and what :func:`socket_core.data.readers.register` has added."""


class DataConfig(Section):
    """Where images come from and how they are prepared; the same for source training and adaptation."""

    kind: KnownKind = Field("scenes", description="embedded scenes, or a layout on disk: docs/data.md")
    modality: Literal["depth", "nir"] = Field("depth", description="of the target images")
    size: int = Field(48, ge=16, le=1024, description="side of the square images, pixels")
    pad: int = Field(4, ge=0, description="largest random shift in pixels")
    flip: bool = Field(True, description="mirror at random, both halves of a pair alike")
    mean: Channels = Field((0.5, 0.5, 0.5), description="subtracted from values in 0..1: one number, or one a channel")
    std: PositiveChannels = Field((0.5, 0.5, 0.5), description="divided by, likewise")
    target_mean: Channels | None = Field(None, description="for target images; default: as for RGB")
    target_std: PositiveChannels | None = Field(None, description="likewise")
    seed: int = Field(0, ge=0, description="which scenes are rendered; not the experiment's seed")
    scenes: ScenesCounts = ScenesCounts()
    root: str = Field("", description="the data set's folder; relative to the YAML file")
    rgb_folder: str = Field("", description="default: rgb; sunrgbd: image; diml: color or col")
    target_folder: str = Field("", description="default: the modality; sunrgbd: depth_bfx; diml: depth_filled or depth")
    train_split: str = Field("train", description="folder of the training views")
    test_split: str = Field("test", description="folder of the test views")
    test_fraction: float = Field(0.25, gt=0, lt=1, description="held out where the data set has no split of its own")
    lists: ListFiles = ListFiles()
    classes: tuple[str, ...] = Field((), description="the task's; sunrgbd: default the 17 published")
    ti_classes: tuple[str, ...] | None = Field(None, description="default: all classes but the task's")
    ti_splits: tuple[str, ...] = Field(("train",), description="folders whose other classes are TI pairs")
    ti_fraction: float = Field(1.0, gt=0, le=1, description="share of the pairs that is used, drawn by data.seed")
    ti_from: Literal["task", "scenes", "folder"] = Field(
        "task", description="another domain: pairs of the embedded scenes, or all of the folder ti_root"
    )
    ti_root: str = Field("", description="a folder in the common layout; relative to the YAML file")
    source_fraction: float = Field(
        1.0,
        gt=0,
        le=1,
        description="share of the training views whose RGB half the owner gets; below 1 the sites get the others",
    )
    source_sensors: tuple[str, ...] = Field((), description="whose RGB images the owner has; default all")
    target_sensors: tuple[str, ...] = Field((), description="whose target images the sites have; default all")
    ti_sensors: tuple[str, ...] = Field((), description="whose pairs the sites have; default all")
    full_scale: float | None = Field(None, gt=0, description="pixel value that becomes 1.0; needed for 16-bit")
    rotated: bool | None = Field(None, description="16-bit depth with SUN RGB-D's rotated bits; default: by kind")
    skip_broken: bool = Field(False, description="leave unusable files out, with their other halves")

    @model_validator(mode="after")
    def _fits_the_kind(self) -> DataConfig:
        if both := sorted(set(self.classes) & set(self.ti_classes or ())):
            raise ValueError(f"{', '.join(both)} in both classes and ti_classes: remove it from one of them")
        only = {"sunrgbd": "depth", "diml": "depth", "epfl_nir": "nir"}.get(self.kind, self.modality)
        if self.modality != only:
            raise ValueError(f"kind {self.kind} is about {only}: set modality: {only}")
        if self.rotated and self.modality != "depth":
            raise ValueError("rotated is about depth: remove it")
        if self.ti_root and self.ti_from != "folder":
            raise ValueError("ti_root is read with ti_from: folder only: set both")
        if self.kind == "lists" and (self.source_fraction < 1 or self.ti_classes is not None):
            raise ValueError("lists say who has what: remove source_fraction and ti_classes")
        return self
