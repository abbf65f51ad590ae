"""An experiment's configuration: frozen models that refuse unknown keys.

One YAML file in ``configs/`` is one :class:`Experiment`; ``configs/README.md`` explains each key.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError, model_validator

from socket_core.config_data import DataConfig, DataKind, ListFiles, ScenesCounts
from socket_core.config_method import (
    MethodConfig,
    MethodName,
    TransferWeights,
    TranslatorConfig,
    TranslatorWeights,
    Weights,
)
from socket_core.config_privacy import PrivacyConfig, SitePrivacyConfig, not_of_one_site, not_private
from socket_core.config_section import NAME, Section
from socket_core.errors import ConfigError
from socket_core.extends import absolute, holder, merge, read_layers
from socket_core.seeds import derive_seed
from socket_core.yaml_files import explain

__all__ = [
    "NAME",
    "BnPolicy",
    "DataConfig",
    "DataKind",
    "Experiment",
    "FederationConfig",
    "FurtherSource",
    "ListFiles",
    "MethodConfig",
    "MethodName",
    "NetworkConfig",
    "PrivacyConfig",
    "ScenesCounts",
    "Section",
    "SitePrivacyConfig",
    "SourceConfig",
    "TransferWeights",
    "TranslatorConfig",
    "TranslatorWeights",
    "UpdateType",
    "Weights",
    "load_experiment",
    "parse_experiment",
    "parse_experiment_json",
]

BnPolicy = Literal["local", "source", "pooled"]
UpdateType = Literal["float32", "float16", "int8"]


class NetworkConfig(Section):
    """The source network; see :data:`socket_core.models.BACKBONES` for the backbones."""

    backbone: str = Field("tiny", description="tiny, tiny_wide, resnet18/34/50/101, vgg11_bn to vgg19_bn")
    bottleneck_dim: int = Field(64, ge=1, description="width of the features that TI pairs align")
    weights: str = Field("", description="file with torchvision's weights of the backbone; relative to the YAML file")


class FurtherSource(Section):
    """One more source model, trained and signed by an owner of its own (SOCKET with several sources)."""

    name: str = Field(pattern=NAME, description="of its owner's key and of the folder of its release")
    backbone: str = Field("tiny", description="may differ from the first source's")
    bottleneck_dim: int = Field(64, ge=1, description="likewise")
    seed: int | None = Field(None, ge=0, description="default: derived from the experiment's seed and the name")


class SourceConfig(Section):
    """Source training (methods.md section 1)."""

    epochs: int = Field(20, ge=1, description="the best on the validation share is kept")
    batch: int = Field(32, ge=2, le=65_536, description="RGB images of a step")
    lr: float = Field(1e-2, gt=0, description="of the bottleneck and the classifier")
    backbone_lr_scale: float = Field(0.1, gt=0, description="0.1 for pretrained backbones, 1 from scratch")
    momentum: float = Field(0.9, ge=0, lt=1, description="of Nesterov's SGD")
    weight_decay: float = Field(1e-3, ge=0, description="L2")
    smoothing: float = Field(0.1, ge=0, lt=1, description="of labels")
    validation: float = Field(0.1, gt=0, lt=1, description="share of the source images that chooses the epoch")
    threads: int = Field(2, ge=1, description="CPU threads; fixed, since their number decides the last bits")


class FederationConfig(Section):
    """Sites, rounds, and what an update must satisfy."""

    sites: int = Field(4, ge=1, description="simulated sites; a deployment enrols whoever answers")
    partition: str = Field("dirichlet:0.5", description="iid | dirichlet:ALPHA over the task's classes | sensor")
    rounds: int = Field(5, ge=1, description="exchanges; those of a shared translator are among them")
    steps: int = Field(40, ge=1, description="optimiser steps per site and round")
    bn_policy: BnPolicy = Field("local", description="what of BatchNorm travels: nothing, affine, or pooled moments")
    weighting: Literal["examples", "equal"] = Field("examples", description="how much a site counts in the mean")
    proximal: float = Field(0.0, ge=0, description="FedProx: pull to the round's global parameters")
    alignment: float = Field(0.0, ge=0, description="server-client alignment: KL from the global model's predictions")
    patience: int = Field(0, ge=0, description="rounds without a better score that end a job; 0: run them all")
    quorum: int = Field(2, ge=1, description="sites that must answer a round")
    enrol_seconds: float = Field(120.0, gt=0, description="how long sites are waited for")
    deadline_seconds: float = Field(600.0, gt=0, description="per round")
    update_dtype: UpdateType = Field("float32", description="of the change that a site sends: 4, 2 or 1 bytes a value")
    download_dtype: UpdateType = Field(
        "float32", description="of the change sent down to sites that hold the round before's parameters"
    )
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

    name: str = Field("experiment", pattern=NAME, description="of files, jobs and rows")
    seed: int = Field(0, ge=0, description="of all random draws but which scenes are rendered")
    device: str = Field("auto", pattern=r"^(auto|cpu|cuda(:\d+)?)$", description="auto: the first GPU, or the CPU")
    threads: int = Field(1, ge=1, le=1024, description="CPU threads of each site")
    precision: Literal["float32", "bfloat16"] = Field(
        "float32", description="of backbones while a method adapts; statistics, losses and weights stay float32"
    )
    data: DataConfig = DataConfig()
    network: NetworkConfig = NetworkConfig()
    further_sources: tuple[FurtherSource, ...] = ()
    source: SourceConfig = SourceConfig()
    method: MethodConfig = MethodConfig()
    federation: FederationConfig = FederationConfig()
    privacy: PrivacyConfig | None = Field(None, description="DP on the TI pairs; none: they train without")
    site_privacy: SitePrivacyConfig | None = Field(None, description="DP of a whole site in federations; none: without")

    @model_validator(mode="after")
    def _pairs_are_private(self) -> Experiment:
        if self.privacy is not None and (what := not_private(self.method)):
            raise ValueError(f"privacy is asked for, but {what}")
        if self.privacy is not None and self.precision != "float32":
            raise ValueError("privacy is asked for, and pairs' gradients are clipped in float32: set precision to it")
        if self.privacy is not None and self.privacy.every > self.federation.steps:
            raise ValueError(f"privacy.every {self.privacy.every} leaves no TI step in {self.federation.steps} steps")
        return self

    @model_validator(mode="after")
    def _a_site_weighs_what_is_clipped(self) -> Experiment:
        if what := not_of_one_site(self):
            raise ValueError(f"site_privacy is asked for, but {what}")
        return self

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
        # Left out where there is none: an experiment without them is what it was before there could be any.
        unused = {key: True for key in ("further_sources", "privacy", "site_privacy") if not getattr(self, key)}
        if self.precision == "float32":
            unused["precision"] = True
        exact = {"download_dtype": True} if self.federation.download_dtype == "float32" else {}
        left_out = OPERATIONAL | unused | {"federation": OPERATIONAL["federation"] | exact}
        return hashlib.sha256(self.model_dump_json(exclude=left_out).encode()).hexdigest()

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
