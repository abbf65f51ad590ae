"""The ``method`` section of an experiment. One set of defaults for all data: docs/adr/0010."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from socket_core import own_names
from socket_core.config_section import Section

MethodName = Literal["unadapted", "adabn", "shot", "socket", "tgkt", "oracle"]
"""Those of the product, for type checkers."""
KnownMethod = Annotated[MethodName, *own_names.or_own(own_names.METHODS)]
"""Those, and what :func:`socket_core.methods.register` has added."""


class Weights(Section):
    """Weights of the loss terms of SHOT and SOCKET, ``pl L_pl + im L_IM + bn L_d + ti L_TI``; 0 switches one off."""

    pl: float = Field(0.3, ge=0, description="cross-entropy on pseudo-labels")
    im: float = Field(1.0, ge=0, description="information maximisation: sure predictions, all classes")
    bn: float = Field(0.05, ge=0, description="L_d: BatchNorm statistics of target batches held to the source's")
    ti: float = Field(5.0, ge=0, description="L_TI: target features of TI pairs held to the source's")


class TransferWeights(Section):
    """Weights of TGKT, ``kl KL(p_S(T(x)) || p_T(x)) + ti L_f + pl L_self``, and of SOCKET's other terms; 0 is off.

    The paper has the first three; ``configs/ablations/tgkt-paper.yaml`` runs with them alone.
    """

    kl: float = Field(1.0, ge=0, description="predictions held to the source's on the translated image")
    ti: float = Field(5.0, ge=0, description="L_f: target features of TI pairs held to the source's")
    pl: float = Field(0.3, ge=0, description="L_self: cross-entropy on pseudo-labels")
    im: float = Field(1.0, ge=0, description="no term of the paper")
    bn: float = Field(0.05, ge=0, description="no term of the paper")


class TranslatorWeights(Section):
    """Weights of TGMB, ``rec L_rec + domain L_D + im L_IM``; 0 is off."""

    rec: float = Field(1.0, ge=0, description="squared error between translated and true RGB of TI pairs")
    domain: float = Field(0.1, ge=0, description="L_D: a discriminator cannot tell translated features from RGB's")
    im: float = Field(0.1, ge=0, description="information maximisation of the source on translated TR images")
    features: float = Field(5.0, ge=0, description="squared distance of source features; ours, 0 for the paper")


class TranslatorConfig(Section):
    """The translator of TGMB + TGKT, stage 1 of the job."""

    kind: Literal["unet", "paper", "replicate"] = Field(
        "unet", description="its network; replicate: the one channel three times, nothing learns"
    )
    exchange: Literal["shared", "local"] = Field(
        "shared", description="shared: averaged over sites in rounds of its own; local: it never leaves its site"
    )
    width: int = Field(16, ge=8, le=512, multiple_of=8, description="channels of its first layer")
    rounds: int = Field(1, ge=1, description="of federation.rounds; the others are for stage 2")
    lr: float = Field(2e-3, gt=0, description="of Adam")
    weights: TranslatorWeights = TranslatorWeights()


class MethodConfig(Section):
    """One adaptation method and its optimiser; the same keys for all, so that methods compare fairly."""

    name: KnownMethod = Field("socket", description="what adapts; oracle uses target labels and is a bound")
    weights: Weights = Weights()
    transfer: TransferWeights = TransferWeights()
    translator: TranslatorConfig = TranslatorConfig()
    ti_loss: Literal["frobenius", "per_sample"] = Field(
        "per_sample", description="mean over pairs, or the published norm over the batch, which couples its pairs"
    )
    ti_views: int = Field(2, ge=1, le=64, description="joint crops per TI pair whose source features are kept")
    first_layer: float = Field(10.0, ge=0, description="weight of the first layer in L_d")
    pseudo_labels: Literal["socket", "shot"] | None = Field(None, description="default: the method's own recipe")
    refresh_every: int | None = Field(None, ge=1, description="steps between pseudo-labels; default one epoch")
    start_from_adabn: bool = Field(True, description="re-estimate BatchNorm statistics before the first step")
    trust: Literal["always", "agreement"] = Field(
        "agreement", description="agreement: terms that trust predictions weigh as much as TI pairs bear them out"
    )
    prior: Literal["uniform", "estimated"] = Field("uniform", description="what the diversity term is measured against")
    validator: Literal["none", "im", "snd", "bnm"] = Field(
        "none", description="label-free score that chooses the round: information maximisation, SND or BNM"
    )
    batch: int = Field(32, ge=2, le=65_536, description="TR images of a step, and TI pairs")
    lr: float = Field(3e-2, gt=0, description="of the bottleneck at the start; falls to a sixth over the job")
    backbone_lr_scale: float = Field(1.0, gt=0, description="0.1 in the published code, with pretrained backbones")
    momentum: float = Field(0.9, ge=0, lt=1, description="of Nesterov's SGD")
    weight_decay: float = Field(1e-3, ge=0, description="L2, on all that trains")
