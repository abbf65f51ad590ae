"""The file of an adapted network: its state, and a card that says all that is needed to use it.

A state alone cannot be used: the same weights after another normalisation are another classifier. So the card lies in
the file's own header (safetensors metadata), and nothing has to be given again, or can be given wrongly, later on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from pydantic import Field, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor
from torch.nn.utils import parametrize

from socket_core.config import Experiment, Section
from socket_core.config_data import Channels, PositiveChannels
from socket_core.data.loader import Preprocessing
from socket_core.ensemble import Ensemble
from socket_core.errors import ConfigError, ReleaseError
from socket_core.files import write_atomically
from socket_core.models import Model, build_network
from socket_core.release import ReleaseInfo

KEY = "socket-fl"
"""Of the card in the metadata of every format."""

AGAIN = "adapt again with this version: socket-site adapt"


class Preparation(Section):
    """From the sensor's raw image to the network's input."""

    modality: Literal["depth", "nir"]
    bits: Literal[8, 16] = Field(description="of a raw pixel")
    rotated: bool = Field(description="raw depth has SUN RGB-D's rotated bits")
    raw: tuple[int, int] | None = Field(description="height and width of raw images, None where the site's differ")
    size: int = Field(ge=1, description="side of the network's input, pixels")
    full_scale: float = Field(gt=0, description="raw value that becomes 1.0")
    mean: Channels
    std: PositiveChannels

    @property
    def preprocessing(self) -> Preprocessing:
        """As the product's own loader wants it, without random draws."""
        return Preprocessing(self.mean, self.std, pad=0, flip=False)


class Part(Section):
    """One network: with several sources there are several, in this order."""

    backbone: str
    bottleneck_dim: int = Field(ge=1)
    release: str = Field(description="digest of the release that it was adapted from")


class Card(Section):
    """What an adapted network is and how images are prepared for it."""

    schema_version: Literal[1] = 1
    site: str
    experiment: str
    method: str
    classes: tuple[str, ...] = Field(min_length=1)
    networks: tuple[Part, ...] = Field(min_length=1)
    preparation: Preparation


@dataclass(frozen=True)
class Adapted:
    """An adapted network as read from its file: the card, and the state with its BatchNorm buffers."""

    card: Card
    state: dict[str, Tensor]

    def network(self) -> Model:
        """A new network with this state, in eval mode and frozen.

        Raises:
            ReleaseError: If card and state are not of one network.
        """
        count = len(self.card.classes)
        parts = [build_network(part.backbone, part.bottleneck_dim, count) for part in self.card.networks]
        model: Model = parts[0] if len(parts) == 1 else Ensemble(parts)
        if not any("parametrizations" in key for key in self.state):
            plain(model)
        try:
            model.load_state_dict(self.state)
        except RuntimeError as error:
            raise ReleaseError(
                f"state and card are of different networks ({str(error).splitlines()[-1].strip()})"[:300],
                where="adapted network",
                remedy=AGAIN,
            ) from None
        return model.requires_grad_(False).eval()


def card_of(infos: Sequence[ReleaseInfo], experiment: Experiment, preparation: Preparation, site: str) -> Card:
    """The card of what this experiment makes of these releases."""
    parts = (Part(backbone=i.backbone, bottleneck_dim=i.bottleneck_dim, release=i.digest) for i in infos)
    return Card(
        site=site,
        experiment=experiment.name,
        method=experiment.method.name,
        classes=infos[0].classes,
        networks=tuple(parts),
        preparation=preparation,
    )


def plain(model: Model) -> Model:
    """Writes each normalised classifier weight out as one tensor, in place: other programs know no other kind."""
    for member in model.members:
        parametrize.remove_parametrizations(member.classifier, "weight")
    return model


def write_adapted(path: Path, state: Mapping[str, Tensor], card: Card) -> None:
    """Writes state and card, whole or not at all."""
    packed = {key: value.detach().cpu().contiguous() for key, value in state.items()}
    write_atomically(path, save(packed, metadata={KEY: card.model_dump_json()}))


def read_adapted(path: Path) -> Adapted:
    """An adapted network with its card.

    Raises:
        ReleaseError: If the file is damaged, has no card, or holds a weight that is not finite.
        OSError: If it cannot be opened.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a mapping)
    except SafetensorError:
        raise ReleaseError("expected an adapted network, found no safetensors", where=str(path), remedy=AGAIN) from None
    card = parse_card(metadata.get(KEY, ""), where=str(path))
    for key, value in state.items():
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            raise ReleaseError(f"tensor {key!r} holds NaN or infinity", where=str(path), remedy=AGAIN)
    return Adapted(card, state)


def parse_card(text: str, *, where: str) -> Card:
    """The card in a file's metadata.

    Raises:
        ReleaseError: If there is none, or one that this version cannot read.
    """
    if not text:
        raise ReleaseError("says neither classes nor how images are prepared", where=where, remedy=AGAIN)
    try:
        return Card.model_validate_json(text)
    except ValidationError as error:
        key = ".".join(str(part) for part in error.errors()[0]["loc"])
        raise ReleaseError(f"its card cannot be read: {key}", where=where, remedy=AGAIN) from None


def check_made_from(card: Card, infos: Sequence[ReleaseInfo], *, where: str) -> None:
    """Refuses a network that was adapted from other releases than these, in this order.

    Raises:
        ReleaseError: Naming the position.
    """
    made, given = [part.release for part in card.networks], [info.digest for info in infos]
    if made != given:
        raise ReleaseError(
            f"adapted from {', '.join(d[:16] for d in made)}, given {', '.join(d[:16] for d in given)}",
            where=where,
            remedy="give --release once for each source, as in socket-site adapt, or leave it out",
        )


def check_experiment(card: Card, experiment: Experiment, *, where: str) -> None:
    """Refuses an experiment that prepares images otherwise than this network needs.

    Raises:
        ConfigError: Naming the key.
    """
    data, prep, own = experiment.data, Preprocessing.of(experiment.data), card.preparation
    pairs = {"modality": (own.modality, data.modality), "size": (own.size, data.size)}
    for key, (made, asked) in (pairs | {"mean": (own.mean, prep.mean), "std": (own.std, prep.std)}).items():
        if made != asked:
            raise ConfigError(
                f"the network was adapted with {made}, the experiment says {asked}",
                where=f"{where}: data.{key}",
                remedy="give the experiment that it was adapted with, or leave --config out",
            )
