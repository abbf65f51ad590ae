"""The sections ``privacy`` (of TI pairs) and ``site_privacy`` (of a whole site) of an experiment: docs/privacy.md."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field, model_validator

from socket_core import own_names
from socket_core.config_method import MethodConfig
from socket_core.config_section import Section

if TYPE_CHECKING:
    from socket_core.config import Experiment

Scope = Literal["bottleneck", "bn_affine", "last_stage", "all"]


class PrivacyConfig(Section):
    """DP on the TI pairs. All numbers are constants of the run: none may be worked out from how many pairs a site has.

    Either ``epsilon`` is given, and the noise is found for the whole job, or ``sigma`` is.
    """

    epsilon: float | None = Field(None, gt=0, description="of the whole job at each site, record-level on TI pairs")
    sigma: float | None = Field(None, ge=0.3, le=1000, description="noise over clip norm, in place of epsilon")
    delta: float = Field(1e-5, gt=0, le=1e-3, description="well below one over the number of pairs")
    sample_rate: float = Field(gt=0, le=1, description="probability of each pair to be in a step")
    expected_batch: int = Field(ge=1, le=1_000_000, description="what the noisy sum is divided by")
    clip: float = Field(1.0, gt=0, description="largest norm of one pair's gradient")
    scope: Scope = Field("bottleneck", description="which parameters TI steps train")
    lr: float | None = Field(None, gt=0, description="of TI steps; default: method.lr, or that of the translator")
    momentum: float = Field(0.0, ge=0, lt=1, description="of TI steps")
    every: int = Field(1, ge=1, description="optimiser steps for each TI step")
    chunk: int = Field(32, ge=1, le=4096, description="pairs whose gradients are in memory at once")
    spare_rounds: int = Field(0, ge=0, le=1000, description="rounds that may be done again after a crash")

    @model_validator(mode="after")
    def _one_of_two(self) -> PrivacyConfig:
        if (self.epsilon is None) == (self.sigma is None):
            raise ValueError("give either epsilon or sigma, and not both")
        return self


def aligns_pairs(method: MethodConfig) -> bool:
    """Whether the target network learns from TI pairs."""
    if method.name == "tgkt":
        return method.transfer.ti > 0
    return method.name == "socket" and method.weights.ti > 0


def uses_pairs(method: MethodConfig) -> bool:
    """Whether a job with this ``method`` section looks at TI pairs.

    Of a registered method nobody here knows: it counts as one that does.
    """
    if method.name in own_names.METHODS:
        return True
    return aligns_pairs(method) or (method.name == "tgkt" and method.translator.kind != "replicate")


def not_private(method: MethodConfig) -> str:
    """Which use of TI pairs no DP step accounts for, and the remedy; empty if there is none."""
    if not uses_pairs(method):
        return ""
    if method.name in own_names.METHODS:
        return f"no DP step accounts for what {method.name} does with TI pairs: leave privacy out"
    if method.name == "tgkt" and method.translator.kind != "replicate" and method.translator.weights.domain > 0:
        return "L_D of the translator compares sets of pairs: set method.translator.weights.domain to 0"
    if method.ti_loss != "per_sample":
        return f"method.ti_loss {method.ti_loss} couples the pairs of a batch: set it to per_sample"
    if method.trust == "agreement":
        return "method.trust agreement looks at TI pairs and is not accounted: set it to always"
    return ""


class SitePrivacyConfig(Section):
    """DP of a whole site in federations: its change of a round is clipped, and the sum over the sites gets noise.

    Either ``epsilon`` is given, and the noise is found for all rounds in which something travels, or ``sigma`` is.
    """

    clip: float = Field(gt=0, le=1e6, description="largest L2 norm of a site's whole change in a round")
    epsilon: float | None = Field(None, gt=0, description="of the whole job, for adding or removing one site")
    sigma: float | None = Field(None, ge=0.3, le=1000, description="noise of the sum over clip, in place of epsilon")
    delta: float = Field(1e-5, gt=0, le=1e-3, description="well below one over the number of sites")
    noise: Literal["server", "sites"] = Field("server", description="who adds it: the owner, or each site a share")
    spare_rounds: int = Field(0, ge=0, le=1000, description="rounds that may be done again after a crash")

    @model_validator(mode="after")
    def _one_of_two(self) -> SitePrivacyConfig:
        if (self.epsilon is None) == (self.sigma is None):
            raise ValueError("give either epsilon or sigma, and not both")
        return self


def not_of_one_site(experiment: Experiment) -> str:
    """Which setting lets more leave a site, or weigh more, than ``site_privacy`` accounts for, and the remedy.

    Empty if there is none, or no such section.
    """
    asked, federation = experiment.site_privacy, experiment.federation
    if asked is None:
        return ""
    if federation.weighting != "equal":
        return "federation.weighting examples lets a site weigh more than its clipped change: set it to equal"
    if federation.bn_policy == "pooled":
        return "federation.bn_policy pooled sends moments that nothing clips: set it to local or source"
    if federation.update_dtype == "int8":
        return "federation.update_dtype int8 adds residuals to a clipped change: set it to float32 or float16"
    if experiment.method.validator != "none":
        return f"method.validator {experiment.method.validator} sends a score without noise: set it to none"
    if asked.noise == "sites" and federation.quorum != federation.sites:
        return "site_privacy.noise sites needs every site's share of noise: set federation.quorum to federation.sites"
    return ""
