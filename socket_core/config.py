"""An experiment's configuration: frozen models that refuse unknown keys.

One YAML file in ``configs/`` is one :class:`Experiment`; ``configs/README.md`` explains each key.
"""

from __future__ import annotations

import hashlib
import math
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from socket_core.errors import ConfigError
from socket_core.extends import absolute, holder, merge, read_layers
from socket_core.yaml_files import explain

BnPolicy = Literal["local", "source", "pooled"]
MethodName = Literal["unadapted", "adabn", "shot", "socket", "tgkt", "oracle"]


NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"
"""What experiments and sites may be called: a plain word, safe in paths, logs and tables."""


class Section(BaseModel):
    """Base of all sections: immutable, no unknown keys, no NaN or infinity."""

    # Infinity and NaN would become null in JSON, and the sites would refuse the experiment.
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class ScenesCounts(Section):
    """How many scenes are rendered for each part; totals over the classes."""

    source_train: int = Field(2400, ge=8)
    source_test: int = Field(800, ge=8)
    target_train: int = Field(1600, ge=8)
    target_test: int = Field(800, ge=8)
    ti: int = Field(1200, ge=1)


class ListFiles(Section):
    """Names of list files, relative to ``data.root``; each line is a path and a class number."""

    source_train: str = ""
    source_test: str = ""
    target_train: str = ""
    target_test: str = ""
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


class DataConfig(Section):
    """Where images come from and how they are prepared; the same for source training and adaptation."""

    kind: DataKind = "scenes"
    modality: Literal["depth", "nir"] = "depth"
    size: int = Field(48, ge=16, le=1024, description="side of the square images, pixels")
    pad: int = Field(4, ge=0, description="largest random shift in pixels")
    flip: bool = True
    mean: Channels = Field((0.5, 0.5, 0.5), description="subtracted from values in 0..1: one number, or one a channel")
    std: PositiveChannels = (0.5, 0.5, 0.5)
    target_mean: Channels | None = Field(None, description="for target images; default: as for RGB")
    target_std: PositiveChannels | None = None
    seed: int = Field(0, ge=0, description="which scenes are rendered; not the experiment's seed")
    scenes: ScenesCounts = ScenesCounts()
    root: str = Field("", description="the data set's folder; relative to the YAML file")
    rgb_folder: str = Field("", description="default: rgb; sunrgbd: image; diml: color or col")
    target_folder: str = Field("", description="default: the modality; sunrgbd: depth_bfx; diml: depth_filled or depth")
    train_split: str = "train"
    test_split: str = "test"
    test_fraction: float = Field(0.25, gt=0, lt=1, description="held out where the data set has no split of its own")
    lists: ListFiles = ListFiles()
    classes: tuple[str, ...] = ()
    ti_classes: tuple[str, ...] | None = Field(None, description="default: all classes but the task's")
    ti_splits: tuple[str, ...] = ("train",)
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
        if (self.ti_from == "folder") != bool(self.ti_root):
            raise ValueError("ti_from folder and ti_root go together: set both or neither")
        if self.kind == "lists" and (self.source_fraction < 1 or self.ti_classes is not None):
            raise ValueError("lists say who has what: remove source_fraction and ti_classes")
        return self


class NetworkConfig(Section):
    """The source network; see :data:`socket_core.models.BACKBONES` for the backbones."""

    backbone: str = "tiny"
    bottleneck_dim: int = Field(64, ge=1)
    weights: str = Field("", description="file with torchvision's weights of the backbone; relative to the YAML file")


class SourceConfig(Section):
    """Source training (methods.md section 1)."""

    epochs: int = Field(20, ge=1)
    batch: int = Field(32, ge=2, le=65_536)
    lr: float = Field(1e-2, gt=0)
    backbone_lr_scale: float = Field(0.1, gt=0, description="0.1 for pretrained backbones, 1 from scratch")
    momentum: float = Field(0.9, ge=0, lt=1)
    weight_decay: float = Field(1e-3, ge=0)
    smoothing: float = Field(0.1, ge=0, lt=1)
    validation: float = Field(0.1, gt=0, lt=1, description="share of the source images that chooses the epoch")
    threads: int = Field(2, ge=1, description="CPU threads; fixed, since their number decides the last bits")


class Weights(Section):
    """Weights of the loss terms of SHOT and SOCKET, ``pl L_pl + im L_IM + bn L_d + ti L_TI``; 0 switches one off."""

    pl: float = Field(0.3, ge=0)
    im: float = Field(1.0, ge=0)
    bn: float = Field(0.05, ge=0)
    ti: float = Field(5.0, ge=0)


class TransferWeights(Section):
    """Weights of TGKT, ``kl KL(p_S(T(x)) || p_T(x)) + ti L_f + pl L_self``, and of SOCKET's other terms; 0 is off.

    The paper has the first three; ``configs/ablations/tgkt-paper.yaml`` runs with them alone.
    """

    kl: float = Field(1.0, ge=0)
    ti: float = Field(5.0, ge=0)
    pl: float = Field(0.3, ge=0)
    im: float = Field(1.0, ge=0, description="no term of the paper")
    bn: float = Field(0.05, ge=0, description="no term of the paper")


class TranslatorWeights(Section):
    """Weights of TGMB, ``rec L_rec + domain L_D + im L_IM``; 0 is off."""

    rec: float = Field(1.0, ge=0)
    domain: float = Field(0.1, ge=0)
    im: float = Field(0.1, ge=0)
    features: float = Field(5.0, ge=0, description="squared distance of source features; ours, 0 for the paper")


class TranslatorConfig(Section):
    """The translator of TGMB + TGKT, stage 1 of the job."""

    kind: Literal["unet", "paper", "replicate"] = "unet"
    exchange: Literal["shared", "local"] = Field(
        "shared", description="shared: averaged over sites in rounds of its own; local: it never leaves its site"
    )
    width: int = Field(16, ge=8, le=512, multiple_of=8)
    rounds: int = Field(1, ge=1, description="of federation.rounds; the others are for stage 2")
    lr: float = Field(2e-3, gt=0, description="of Adam")
    weights: TranslatorWeights = TranslatorWeights()


class MethodConfig(Section):
    """One adaptation method and its optimiser; the same keys for all, so that methods compare fairly."""

    name: MethodName = "socket"
    weights: Weights = Weights()
    transfer: TransferWeights = TransferWeights()
    translator: TranslatorConfig = TranslatorConfig()
    ti_loss: Literal["frobenius", "per_sample"] = "per_sample"
    ti_views: int = Field(2, ge=1, le=64, description="joint crops per TI pair whose source features are kept")
    first_layer: float = Field(10.0, ge=0, description="weight of the first layer in L_d")
    pseudo_labels: Literal["socket", "shot"] | None = Field(None, description="default: the method's own recipe")
    refresh_every: int | None = Field(None, ge=1, description="steps between pseudo-labels; default one epoch")
    start_from_adabn: bool = True
    trust: Literal["always", "agreement"] = Field(
        "agreement", description="agreement: terms that trust predictions weigh as much as TI pairs bear them out"
    )
    prior: Literal["uniform", "estimated"] = Field("uniform", description="what the diversity term is measured against")
    batch: int = Field(32, ge=2, le=65_536)
    lr: float = Field(3e-2, gt=0)
    backbone_lr_scale: float = Field(1.0, gt=0, description="0.1 in the published code, with pretrained backbones")
    momentum: float = Field(0.9, ge=0, lt=1)
    weight_decay: float = Field(1e-3, ge=0)


class FederationConfig(Section):
    """Sites, rounds, and what an update must satisfy."""

    sites: int = Field(4, ge=1, description="simulated sites; a deployment enrols whoever answers")
    partition: str = Field("dirichlet:0.5", description="iid | dirichlet:ALPHA over the task's classes | sensor")
    rounds: int = Field(5, ge=1)
    steps: int = Field(40, ge=1, description="optimiser steps per site and round")
    bn_policy: BnPolicy = "local"
    weighting: Literal["examples", "equal"] = "examples"
    proximal: float = Field(0.0, ge=0, description="FedProx: pull to the round's global parameters")
    alignment: float = Field(0.0, ge=0, description="server-client alignment: KL from the global model's predictions")
    quorum: int = Field(2, ge=1, description="sites that must answer a round")
    enrol_seconds: float = Field(120.0, gt=0)
    deadline_seconds: float = Field(600.0, gt=0, description="per round")
    max_examples: int = Field(1_000_000, ge=1, description="largest number of images a site may claim")
    max_relative_update: float = Field(10.0, gt=0, description="largest norm of a delta over that of the parameters")
    evaluate_every: int = Field(1, ge=0, description="rounds between evaluations; 0: only after the last")

    @model_validator(mode="after")
    def _quorum_can_be_reached(self) -> FederationConfig:
        if self.quorum > self.sites:
            raise ValueError(f"quorum {self.quorum} is more than sites {self.sites}")
        return self


class Experiment(Section):
    """All of an experiment. The seed drives everything but which scenes are rendered."""

    name: str = Field("experiment", pattern=NAME)
    seed: int = Field(0, ge=0)
    device: str = Field("auto", pattern=r"^(auto|cpu|cuda(:\d+)?)$")
    threads: int = Field(1, ge=1, le=1024, description="CPU threads of each site")
    data: DataConfig = DataConfig()
    network: NetworkConfig = NetworkConfig()
    source: SourceConfig = SourceConfig()
    method: MethodConfig = MethodConfig()
    federation: FederationConfig = FederationConfig()

    @model_validator(mode="after")
    def _translator_leaves_rounds(self) -> Experiment:
        translator = self.method.translator
        learns = self.method.name == "tgkt" and translator.kind != "replicate"
        if learns and translator.rounds >= self.federation.rounds:
            raise ValueError(
                f"method.translator.rounds {translator.rounds} leaves nothing of federation.rounds "
                f"{self.federation.rounds} for the transfer"
            )
        return self

    @model_validator(mode="after")
    def _sensors_are_known(self) -> Experiment:
        if self.federation.partition == "sensor" and self.data.kind != "sunrgbd":
            raise ValueError("federation.partition sensor needs data that name their sensors: data.kind sunrgbd")
        return self

    def digest(self) -> str:
        """sha256 of all that decides the result: two experiments with one digest are the same experiment.

        How long to wait, for how many, where to compute and when to evaluate may change between a run and
        its resumption.
        """
        return hashlib.sha256(self.model_dump_json(exclude=OPERATIONAL).encode()).hexdigest()

    def source_digest(self) -> str:
        """sha256 of all settings that decide the source model; which files lie in ``data.root`` is not seen."""
        parts = (
            str(self.seed),
            self.data.model_dump_json(exclude=OF_TARGET),
            self.network.model_dump_json(),
            self.source.model_dump_json(),
        )
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()


OF_TARGET: dict[str, Any] = dict.fromkeys(
    (
        *("root", "modality", "target_folder", "ti_classes", "ti_splits", "target_sensors", "ti_sensors"),
        *("ti_fraction", "ti_from", "ti_root", "full_scale", "rotated", "target_mean", "target_std"),
    ),
    True,
) | {"lists": {"target_train", "target_test", "ti_rgb", "ti_target"}}
"""Keys of ``data`` that do not concern the source model. ``skip_broken`` does: a broken target half takes its RGB
half with it."""

OPERATIONAL: dict[str, Any] = {
    "device": True,
    "federation": {
        "quorum": True,
        "enrol_seconds": True,
        "deadline_seconds": True,
        "max_examples": True,
        "max_relative_update": True,
        "evaluate_every": True,
    },
}
"""Keys that do not decide the result."""


def load_experiment(path: Path, overrides: dict[str, Any] | None = None) -> Experiment:
    """Reads and validates a YAML experiment, with what it extends (see :mod:`socket_core.extends`).

    Args:
        path: The file.
        overrides: Dotted keys to values, applied on top: ``{"method.name": "shot", "seed": 1}``.

    Raises:
        ConfigError: If a file is missing, is not YAML, or a key or value is wrong; names the file and the key,
            and the nearest known one if the key is unknown.
    """
    layers = read_layers(path)
    raw = merge(layers)
    for dotted, value in (overrides or {}).items():
        *sections, last = dotted.split(".")
        node = raw
        for section in sections:
            node = node.setdefault(section, {})
            if not isinstance(node, dict):
                raise ConfigError(
                    f"key {section!r}: expected keys and values, found {node!r}",
                    where=str(path),
                    remedy=f"{dotted!r} is set from outside and belongs there",
                )
        node[last] = value
    try:
        experiment = Experiment.model_validate(raw, strict=False)
    except ValidationError as error:
        location = error.errors()[0]["loc"]
        given = ".".join(map(str, location)) in (overrides or {})  # by the caller, hence in none of the files
        where = path if given else holder(layers, location)
        raise explain(error, Experiment, where=str(where), see="configs/README.md") from None
    # Sites and workers have other working directories: what a file says is relative to the file.
    data = experiment.data.model_copy(update=absolute(experiment.data.model_dump(include={"root", "ti_root"}), path))
    weights = experiment.network.model_copy(update=absolute(experiment.network.model_dump(include={"weights"}), path))
    return experiment.model_copy(update={"data": data, "network": weights})


def parse_experiment(raw: dict[str, Any], *, where: str) -> Experiment:
    """Validates an experiment from plain values; see :func:`load_experiment` for the errors."""
    try:
        return Experiment.model_validate(raw, strict=False)
    except ValidationError as error:
        raise explain(error, Experiment, where=where, see="configs/README.md") from None


def parse_experiment_json(text: str, *, where: str) -> Experiment:
    """Validates an experiment from JSON, as it travels to a site."""
    try:
        return Experiment.model_validate_json(text)
    except ValidationError as error:
        raise explain(error, Experiment, where=where, see="configs/README.md") from None
