"""Translators of TGMB: from a depth or infrared image to a source-like RGB image (methods.md section 3).

``paper`` follows the description in the paper, "an FC layer, a BN layer and a Conv layer", read as a pointwise
convolution, BatchNorm and a 3x3 convolution. ``unet`` is ours: it works at half resolution, which costs about a
tenth of full resolution, and has GroupNorm, so that no image depends on others of its batch (and DP-SGD may
train it). ``replicate`` leaves the image as it is, one channel three times: what a translator must beat.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

TranslatorKind = Literal["unet", "paper", "replicate"]


class UNet(nn.Module):
    """A small U-Net at half, quarter and eighth resolution; its last layer sees the image itself again.

    Back to full resolution by interpolation: sub-pixel convolution (pixel shuffle) gave a checkerboard that the
    feature loss made use of, and agreement on held-out pairs stayed at chance (docs/adr/0011).

    Args:
        width: Channels at half resolution, a multiple of 8; twice and four times as many further down.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.to_half = _block(1, width, stride=2)
        self.to_quarter = _block(width, 2 * width, stride=2)
        self.to_eighth = _block(2 * width, 4 * width, stride=2)
        self.up_quarter = _block(6 * width, 2 * width)
        self.up_half = _block(3 * width, width)
        self.to_full = nn.Conv2d(width, 8, 3, padding=1)
        self.out = nn.Conv2d(9, 3, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """``(N, 1, H, W)`` to ``(N, 3, H, W)``, for any H and W."""
        height, width = x.shape[2:]
        x = F.pad(x, (0, -width % 8, 0, -height % 8), mode="replicate")
        half = self.to_half(x)
        quarter = self.to_quarter(half)
        deep = self.to_eighth(quarter)
        up = self.up_quarter(torch.cat([_double(deep), quarter], dim=1))
        up = self.up_half(torch.cat([_double(up), half], dim=1))
        full = F.interpolate(self.to_full(up), scale_factor=2.0, mode="bilinear", align_corners=False)
        out: Tensor = self.out(torch.cat([full, x], dim=1))
        return out[:, :, :height, :width]


def _block(cin: int, cout: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(cin, cout, 3, stride, 1), nn.GroupNorm(8, cout), nn.ReLU(inplace=True))


def _double(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2.0, mode="nearest")


def _paper(width: int) -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, width, 1), nn.BatchNorm2d(width), nn.ReLU(), nn.Conv2d(width, 3, 3, padding=1))


class _Reversed(torch.autograd.Function):
    """Identity whose gradient changes sign."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        return -grads[0]


class Bridge(nn.Module):
    """What stage 1 learns: a translator, and the discriminator of its adversarial term.

    Args:
        kind: Which translator.
        width: Its width.
        feature_dim: D, the width of the source network's bottleneck.
    """

    def __init__(self, kind: TranslatorKind, width: int, feature_dim: int) -> None:
        super().__init__()
        makers = {"unet": UNet, "paper": _paper}
        self.translator = makers[kind](width) if kind in makers else None
        self.discriminator = nn.Sequential(nn.Linear(feature_dim, 32), nn.ReLU(), nn.Linear(32, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Source-like RGB ``(N, 3, H, W)`` from target images ``(N, 3, H, W)``: one channel, replicated.

        Each channel is normalised in its own way, so that plain replication has to keep all three.
        """
        return self.translate(x).contiguous(memory_format=torch.channels_last)

    def translate(self, x: Tensor) -> Tensor:
        """The same in any memory format: under ``vmap`` there is but one."""
        out: Tensor = x if self.translator is None else self.translator(x[:, :1])
        return out

    def domain_scores(self, features: Tensor) -> Tensor:
        """The discriminator's logits ``(N,)`` for source features ``(N, D)``; their gradient is reversed."""
        out: Tensor = self.discriminator(_Reversed.apply(features))
        return out.squeeze(1)


def build_bridge(kind: TranslatorKind, width: int, feature_dim: int, *, seed: int) -> Bridge:
    """A freshly initialised bridge; depends on ``seed`` alone and leaves the global random state as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Bridge(kind, width, feature_dim)
