"""An experiment's configuration: frozen models that refuse unknown keys.

One YAML file in ``configs/`` is one :class:`Experiment`; ``configs/README.md`` explains each key.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from socket_core.errors import ConfigError
from socket_core.seeds import derive_seed
from socket_core.yaml_files import explain, read_mapping

BnPolicy = Literal["local", "source", "pooled"]
MethodName = Literal["unadapted", "adabn", "shot", "socket", "oracle"]


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


class DataConfig(Section):
    """Where images come from and how they are prepared; the same for source training and adaptation."""

    kind: Literal["scenes", "folder"] = "scenes"
    modality: Literal["depth", "nir"] = "depth"
    size: int = Field(48, ge=16, le=1024, description="side of the square images, pixels")
    pad: int = Field(4, ge=0, description="largest random shift in pixels")
    flip: bool = True
    mean: float = Field(0.5, description="subtracted from values in 0..1, every channel and modality")
    std: float = Field(0.5, gt=0)
    seed: int = Field(0, ge=0, description="which scenes are rendered; not the experiment's seed")
    scenes: ScenesCounts = ScenesCounts()
    root: str = Field("", description="<root>/<split>/<modality>/<class>/<id>.*; relative to the YAML file")
    classes: tuple[str, ...] = ()
    ti_classes: tuple[str, ...] | None = Field(None, description="default: all classes but the task's")
    ti_splits: tuple[str, ...] = ("train",)
    source_fraction: float = Field(
        1.0,
        gt=0,
        le=1,
        description="share of the training views whose RGB half the owner gets; below 1 the sites get the others",
    )
    full_scale: float | None = Field(None, gt=0, description="pixel value that becomes 1.0; needed for 16-bit")


class NetworkConfig(Section):
    """The source network; see :data:`socket_core.models.BACKBONES` for the backbones."""

    backbone: str = "tiny"
    bottleneck_dim: int = Field(64, ge=1)


class FurtherSource(Section):
    """One more source model, trained and signed by an owner of its own (SOCKET with several sources)."""

    name: str = Field(pattern=NAME, description="of its owner's key and of the folder of its release")
    backbone: str = "tiny"
    bottleneck_dim: int = Field(64, ge=1)
    seed: int | None = Field(None, ge=0, description="default: derived from the experiment's seed and the name")


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
    """Weights of the loss terms ``L = pl L_pl + im L_IM + bn L_d + ti L_TI``; 0 switches a term off."""

    pl: float = Field(0.3, ge=0)
    im: float = Field(1.0, ge=0)
    bn: float = Field(0.5, ge=0)
    ti: float = Field(0.5, ge=0)


class MethodConfig(Section):
    """One adaptation method and its optimiser; the same keys for all, so that methods compare fairly."""

    name: MethodName = "socket"
    weights: Weights = Weights()
    ti_loss: Literal["frobenius", "per_sample"] = "frobenius"
    ti_views: int = Field(2, ge=1, le=64, description="joint crops per TI pair whose source features are kept")
    first_layer: float = Field(10.0, ge=0, description="weight of the first layer in L_d")
    pseudo_labels: Literal["socket", "shot"] | None = Field(None, description="default: the method's own recipe")
    refresh_every: int | None = Field(None, ge=1, description="steps between pseudo-labels; default one epoch")
    start_from_adabn: bool = True
    batch: int = Field(32, ge=2, le=65_536)
    lr: float = Field(1e-2, gt=0)
    backbone_lr_scale: float = Field(0.1, gt=0)
    momentum: float = Field(0.9, ge=0, lt=1)
    weight_decay: float = Field(1e-3, ge=0)


class FederationConfig(Section):
    """Sites, rounds, and what an update must satisfy."""

    sites: int = Field(4, ge=1, description="simulated sites; a deployment enrols whoever answers")
    partition: str = Field("dirichlet:0.5", description="iid | dirichlet:ALPHA, over the task's classes")
    rounds: int = Field(5, ge=1)
    steps: int = Field(40, ge=1, description="optimiser steps per site and round")
    bn_policy: BnPolicy = "local"
    weighting: Literal["examples", "equal"] = "examples"
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
    further_sources: tuple[FurtherSource, ...] = ()
    source: SourceConfig = SourceConfig()
    method: MethodConfig = MethodConfig()
    federation: FederationConfig = FederationConfig()

    @model_validator(mode="after")
    def _sources_have_own_names(self) -> Experiment:
        names = ["owner", *(source.name.casefold() for source in self.further_sources)]
        if len(set(names)) < len(names):  # keys and folders are named after them; "owner" is the first source's
            raise ValueError(f"further_sources: names must differ, and none may be 'owner': {', '.join(names[1:])}")
        return self

    def trainer(self, source: str = "") -> Experiment:
        """The experiment that trains one of the sources: the first, or the further one of that name.

        Raises:
            ConfigError: If there is no source of that name.
        """
        if not source:
            return self
        for further in self.further_sources:
            if further.name == source:
                derived = derive_seed(self.seed, "source", further.name)
                network = NetworkConfig(backbone=further.backbone, bottleneck_dim=further.bottleneck_dim)
                seed = derived if further.seed is None else further.seed
                return self.model_copy(update={"network": network, "seed": seed, "further_sources": ()})
        known = ", ".join(further.name for further in self.further_sources) or "none"
        raise ConfigError(f"no source {source!r}", where="further_sources", remedy=f"known further sources: {known}")

    def digest(self) -> str:
        """sha256 of all that decides the result: two experiments with one digest are the same experiment.

        How long to wait, for how many, where to compute and when to evaluate may change between a run and
        its resumption.
        """
        # Left out where there is none: an experiment of one source is what it was before there could be more.
        unused = {} if self.further_sources else {"further_sources": True}
        return hashlib.sha256(self.model_dump_json(exclude=OPERATIONAL | unused).encode()).hexdigest()

    def source_digest(self) -> str:
        """sha256 of all settings that decide the source model; which files lie in ``data.root`` is not seen."""
        of_target = {"root", "modality", "ti_classes", "ti_splits", "full_scale"}
        parts = (
            str(self.seed),
            self.data.model_dump_json(exclude=of_target),
            self.network.model_dump_json(),
            self.source.model_dump_json(),
        )
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()


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
    """Reads and validates a YAML experiment.

    Args:
        path: The file.
        overrides: Dotted keys to values, applied on top: ``{"method.name": "shot", "seed": 1}``.

    Raises:
        ConfigError: If the file is missing, is not YAML, or a key or value is wrong; names the key, and
            the nearest known one if the key is unknown.
    """
    raw = read_mapping(path)
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
    experiment = parse_experiment(raw, where=str(path))
    # Sites and workers have other working directories: what a file says is relative to the file.
    data = experiment.data
    if data.root and not Path(data.root).expanduser().is_absolute():
        root = str((path.resolve().parent / data.root).resolve())
        return experiment.model_copy(update={"data": data.model_copy(update={"root": root})})
    return experiment


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
