"""``site.yaml``: all that a deployed site knows and allows, read from its own disk only.

Light to import: the process that supervises a SuperNode for months reads it, and needs no PyTorch.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import Field, ValidationError

from client.connection import Connection
from socket_core.config import BnPolicy
from socket_core.config_method import KnownMethod
from socket_core.config_privacy import Scope
from socket_core.config_section import NAME, Section
from socket_core.yaml_files import explain, read_mapping

_S = TypeVar("_S", bound=Section)


class PrivacyPolicy(Section):
    """Limits on what runs may do with this site's images.

    ``epsilon`` is record-level on TI pairs, adding or removing one pair; ``site_epsilon`` is of the whole site, adding
    or removing it. The two are never added.
    """

    require_dp: bool = Field(False, description="whether methods that use TI pairs are refused without DP")
    epsilon: float = Field(3.0, gt=0, description="cap on these pairs over all jobs, ever")
    delta: float = Field(1e-5, gt=0, le=1e-3, description="of both caps, and the largest that a run may ask for")
    min_sigma: float = Field(0.5, ge=0.3, description="least noise multiplier")
    scopes: tuple[Scope, ...] = Field(
        ("bottleneck", "bn_affine", "last_stage", "all"), description="parameters that TI steps under DP may train"
    )
    require_site_dp: bool = Field(False, description="whether federations without site_privacy are refused")
    site_epsilon: float = Field(8.0, gt=0, description="cap on the whole site over all federations, ever")


class SitePolicy(Section):
    """Limits that a run can only stay within.

    ``pooled`` BatchNorm is off by default: it sends statistics of the site's images.
    """

    methods: tuple[KnownMethod, ...] = Field(
        ("unadapted", "adabn", "shot", "socket", "tgkt"), description="that runs may use here"
    )
    bn_policies: tuple[BnPolicy, ...] = Field(
        ("local", "source"), description="pooled sends BatchNorm statistics of this site's images"
    )
    translators: tuple[Literal["shared", "local"], ...] = Field(
        ("shared", "local"), description="shared: a translator trained on this site's TI pairs leaves it"
    )
    validation_scores: bool = Field(
        False, description="whether a label-free score of the predictions on this site's images may leave"
    )
    held_out_counts: bool = Field(False, description="whether confusion counts on the images below held_out may leave")
    max_rounds: int = Field(1000, ge=1, description="of one job")
    max_steps: int = Field(100_000, ge=1, description="optimiser steps in one round")
    max_sources: int = Field(4, ge=1, description="releases adapted together; a step costs as much as all of them")
    privacy: PrivacyPolicy = PrivacyPolicy()


class SiteFile(Section):
    """``site.yaml``: all that a deployed site needs to know. Relative paths start at the file's own folder."""

    name: str = Field(pattern=NAME, description="of this site, as the owner knows it")
    modality: Literal["depth", "nir"] = Field("depth", description="of its sensor")
    owner_key: Path = Field(description="the owner's public key, received out of band")
    further_owner_keys: tuple[Path, ...] = Field((), description="of the owners of further sources, likewise")
    home: Path = Field(description="releases, decoded images, BatchNorm state, journal")
    tr: Path = Field(description="folder of unlabelled task-relevant target images")
    ti_rgb: Path = Field(description="folder of the RGB halves of the task-irrelevant pairs")
    ti_target: Path = Field(description="folder of the target halves, same file names but for the ending")
    held_out: Path | None = Field(
        None, description="labelled target images to test on, a folder for each class; never trained on"
    )
    full_scale: float | None = Field(None, gt=0, description="pixel value that becomes 1.0; needed for 16-bit")
    rotated: bool = Field(False, description="16-bit depth with SUN RGB-D's rotated bits")
    keep_sent: bool = Field(
        False, description="copy what leaves to home/sent, to attack it; 8 bytes a parameter and round, never removed"
    )
    policy: SitePolicy = SitePolicy()
    connection: Connection | None = Field(None, description="to the owner; what socket-site serve needs")


def read_site_file(path: Path) -> SiteFile:
    """Reads and validates ``site.yaml``; the paths in the result are absolute.

    Raises:
        ConfigError: If the file is missing or a key is wrong.
    """
    try:
        file = SiteFile.model_validate(read_mapping(path), strict=False)
    except ValidationError as error:
        raise explain(error, SiteFile, where=str(path), see="docs/deploy.md") from None
    return _anchored(file, path.expanduser().resolve().parent)


def _anchored(section: _S, folder: Path) -> _S:
    """The section with each relative path put below ``folder``: a SuperNode's working directory is nobody's choice."""

    def anchor(value: Any) -> Any:
        if isinstance(value, Path):
            return folder / value.expanduser()
        if isinstance(value, tuple):
            return tuple(anchor(item) for item in value)
        return _anchored(value, folder) if isinstance(value, Section) else value

    return section.model_copy(update={key: anchor(value) for key, value in section})
