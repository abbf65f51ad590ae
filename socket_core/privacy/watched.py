"""Per-record gradients from one ordinary pass over all images: each layer in scope is watched, none is vectorised.

In a network that keeps images apart, what a layer was given (a) and the gradient of its output (g) say all: a record's
gradient of a convolution or linear layer is ``sum_l g_l a_l^T`` over the places l of its images. Where a layer has
many places and few weights it is worked out; else its squared norm is ``sum_lm (a_l . a_m)(g_l . g_m)``, and the
weighted sum is the layer's usual backward pass on scaled g (mixed ghost clipping, Bu et al., NeurIPS 2022;
book-keeping, ICML 2023). So memory does not grow with records times weights.

It holds only where images are kept apart. :func:`can_watch` therefore admits no layer that it does not know.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from socket_core.errors import PrivacyError
from socket_core.models import Model

_APART = (nn.ReLU, nn.MaxPool2d, nn.AdaptiveAvgPool2d, nn.Flatten, nn.Identity)
"""Layers without parameters that treat each image by itself."""

_PLACES_AT_ONCE = 1 << 22
"""Values of unfolded inputs that are in memory at once: 16 MB."""


def can_watch(model: nn.Module) -> bool:
    """Whether every layer on the way to the features is known to keep images apart, with BatchNorm in eval mode."""
    if not isinstance(model, Model):
        return False
    return all(
        _known(m) for member in model.members for part in (member.backbone, member.bottleneck) for m in part.modules()
    )


def _known(module: nn.Module) -> bool:
    kind = type(module)  # exactly: a subclass may do anything
    if isinstance(module, nn.Conv2d) and kind is nn.Conv2d:
        return module.groups == 1 and module.padding_mode == "zeros" and not isinstance(module.padding, str)
    if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d) and kind in (nn.BatchNorm1d, nn.BatchNorm2d):
        return module.track_running_stats and module.affine
    return kind in (nn.Linear, nn.Sequential, *_APART) or kind.__module__ == "torchvision.models.resnet"


class Watched:
    """The gradients of B records that one forward pass under :meth:`forward` and :meth:`backward` has left.

    Args:
        model: Admitted by :func:`can_watch`, with BatchNorm in eval mode.
        scope: Its parameters in question, by name.
        views: Images of each record, one after the other.
    """

    def __init__(self, model: nn.Module, scope: Mapping[str, Tensor], views: int) -> None:
        self._scope, self._views = scope, views
        self._model = model
        names = {id(p): name for name, p in scope.items()}
        self._names = {
            m: {kind: names[id(p)] for kind, p in m.named_parameters(recurse=False) if id(p) in names}
            for m in model.modules()
        }
        self._names = {m: named for m, named in self._names.items() if named}
        self._parts: dict[nn.Module, _Layer | _Norm] = {}
        # Its gradient is asked for and is none: what counts is that backward passes through each watched layer.
        self._anchor = torch.zeros((), device=next(iter(scope.values())).device, requires_grad=True)

    @contextmanager
    def forward(self) -> Iterator[None]:
        """Around the forward pass, with gradients on: only watched layers and what follows them are in the graph."""
        learn = [p for p in self._model.parameters() if p.requires_grad]
        try:
            for p in learn:
                p.requires_grad_(False)
            for layer in self._names:
                layer.forward = partial(self._run, layer)
            yield
        finally:
            for layer in self._names:
                vars(layer).pop("forward", None)
            for p in learn:
                p.requires_grad_(True)

    def _run(self, layer: nn.Module, x: Tensor) -> Tensor:
        out: Tensor = _Watch.apply(x, self._anchor, layer, partial(self._keep, layer))
        return out

    def backward(self, loss: Tensor) -> None:
        """From the sum of the records' losses back through all watched layers; no ``grad`` is touched."""
        torch.autograd.grad(loss, self._anchor, allow_unused=True)
        if missing := len(self._names) - len(self._parts):
            raise PrivacyError(
                f"{missing} layers were not reached", where="privacy", remedy="this is a fault: report it"
            )

    def _keep(self, layer: nn.Module, x: Tensor, gy: Tensor) -> None:
        if layer in self._parts:
            raise PrivacyError("a layer ran twice", where="privacy", remedy="this is a fault: report it")
        kind = _Layer if isinstance(layer, nn.Conv2d | nn.Linear) else _Norm
        self._parts[layer] = kind(layer, x.detach(), gy.detach(), self._views, self._names[layer])

    def squares(self) -> Tensor:
        """See :class:`socket_core.privacy.per_record.RecordGradients`."""
        return torch.stack([part.squares for part in self._parts.values()]).sum(0)

    def weighted_sum(self, weights: Tensor) -> dict[str, Tensor]:
        """See :class:`socket_core.privacy.per_record.RecordGradients`."""
        return self._in_order(part.weighted_sum(weights) for part in self._parts.values())

    def rows(self) -> dict[str, Tensor]:
        """See :class:`socket_core.privacy.per_record.RecordGradients`."""
        return self._in_order(part.rows() for part in self._parts.values())

    def _in_order(self, parts: Iterator[dict[str, Tensor]]) -> dict[str, Tensor]:
        found = {name: g for part in parts for name, g in part.items()}
        return {name: found[name] for name in self._scope}


class _Watch(torch.autograd.Function):
    """A layer with frozen parameters that hands its input and the gradient of its output to ``keep``."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, anchor: Tensor, layer: nn.Module, keep: Callable[[Tensor, Tensor], None]
    ) -> Tensor:
        ctx.save_for_backward(x)
        ctx.layer, ctx.keep = layer, keep
        out: Tensor = type(layer).forward(layer, x)
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (x,), (gy,) = ctx.saved_tensors, grads
        ctx.keep(x, gy)
        return (_input_gradient(ctx.layer, x, gy) if ctx.needs_input_grad[0] else None), None, None, None


def _input_gradient(layer: nn.Module, x: Tensor, gy: Tensor) -> Tensor:
    if isinstance(layer, nn.Linear):
        return gy @ layer.weight
    if isinstance(layer, nn.Conv2d):
        return _conv_backward(layer, x, gy, wanted=0)
    scale, _ = _scale_shift(layer, x.dim())
    return gy * scale


def _conv_backward(layer: nn.Conv2d, x: Tensor, gy: Tensor, *, wanted: int) -> Tensor:
    """The gradient of the input (0) or of the weight (1)."""
    mask, places = [wanted == 0, wanted == 1, False], (layer.stride, layer.padding, layer.dilation)
    found = torch.ops.aten.convolution_backward(gy, x, layer.weight, None, *places, False, [0, 0], 1, mask)
    out: Tensor = found[wanted]
    return out


def _scale_shift(layer: nn.Module, dims: int) -> tuple[Tensor, Tensor]:
    """``gamma / std`` and ``1 / std`` of frozen BatchNorm, in a shape that fits inputs of so many dimensions."""
    assert isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d)
    assert layer.running_var is not None
    shape = (1, -1) + (1,) * (dims - 2)
    inverse = (layer.running_var + layer.eps).rsqrt()
    return (layer.weight * inverse).view(shape), inverse.view(shape)


class _Norm:
    """BatchNorm in eval mode: as many numbers a record as it has channels, so they are all worked out."""

    def __init__(self, layer: nn.Module, x: Tensor, gy: Tensor, views: int, names: Mapping[str, str]) -> None:
        assert isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d)
        assert layer.running_mean is not None
        _, inverse = _scale_shift(layer, x.dim())
        places, channels = tuple(range(2, x.dim())), layer.num_features
        found = {}
        if "weight" in names:
            product = (x - layer.running_mean.view(inverse.shape)).mul_(gy)
            found["weight"] = (product.sum(places) if places else product) * inverse.view(1, -1)
        if "bias" in names:
            found["bias"] = gy.sum(places) if places else gy
        self._rows = {names[kind]: g.reshape(-1, views, channels).sum(1) for kind, g in found.items()}
        self.squares = torch.stack([g.square().sum(1) for g in self._rows.values()]).sum(0)

    def weighted_sum(self, weights: Tensor) -> dict[str, Tensor]:
        return {name: weights @ g for name, g in self._rows.items()}

    def rows(self) -> dict[str, Tensor]:
        return self._rows


class _Layer:
    """A convolution or a linear layer, which is one with a single place."""

    def __init__(self, layer: nn.Module, x: Tensor, gy: Tensor, views: int, names: Mapping[str, str]) -> None:
        assert isinstance(layer, nn.Conv2d | nn.Linear)
        self._layer, self._views, self._names = layer, views, names
        outputs, inputs = len(layer.weight), layer.weight[0].numel()
        places = views * (gy[0, 0].numel() if gy.dim() == 4 else 1)
        squares = []
        self._weights: Tensor | None = None
        self._x, self._gy = x, gy
        if "bias" in names:
            flat = gy.flatten(2).sum(2) if gy.dim() == 4 else gy
            self._bias = flat.reshape(-1, views, outputs).sum(1)
            squares.append(self._bias.square().sum(1))
        if "weight" in names:
            # The cheaper of the two, in multiplications, where float64 counts twice; it needs less memory, too.
            if 2 * places * (outputs + inputs) < outputs * inputs:
                squares.append(torch.cat([_gram_norms(a, g) for a, g in self._unfolded()]))
            else:
                self._weights = torch.cat([torch.einsum("rld,rlp->rpd", a, g) for a, g in self._unfolded()])
                squares.append(self._weights.flatten(1).square().sum(1))
                del self._x, self._gy  # they have said all
        self.squares = torch.stack(squares).sum(0)

    def _unfolded(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Inputs ``(r, L, D)`` and gradients ``(r, L, P)`` at the L places of some records at a time."""
        layer, views = self._layer, self._views
        values = views * layer.weight[0].numel() * (self._gy[0, 0].numel() if self._gy.dim() == 4 else 1)
        step = max(1, _PLACES_AT_ONCE // values) * views
        for x, gy in zip(self._x.split(step), self._gy.split(step), strict=True):
            if isinstance(layer, nn.Linear):
                yield x.unflatten(0, (-1, views)), gy.unflatten(0, (-1, views))
                continue
            if layer.kernel_size == (1, 1) and layer.padding == (0, 0):
                inputs = _places(x[:, :, :: layer.stride[0], :: layer.stride[1]], views)
            else:
                columns = F.unfold(x, layer.kernel_size, layer.dilation, layer.padding, layer.stride)  # type: ignore[arg-type]  # pairs
                inputs = _places(columns.unsqueeze(3), views)
            yield inputs, _places(gy, views)

    def weighted_sum(self, weights: Tensor) -> dict[str, Tensor]:
        out = {}
        if "bias" in self._names:
            out[self._names["bias"]] = weights @ self._bias
        if "weight" in self._names:
            out[self._names["weight"]] = self._weight_sum(weights)
        return out

    def _weight_sum(self, weights: Tensor) -> Tensor:
        if self._weights is not None:
            total: Tensor = torch.tensordot(weights, self._weights, dims=1).view(self._layer.weight.shape)
            return total
        scaled = self._gy * weights.repeat_interleave(self._views).view(-1, *(1,) * (self._gy.dim() - 1))
        if isinstance(self._layer, nn.Conv2d):
            return _conv_backward(self._layer, self._x, scaled, wanted=1)
        out: Tensor = scaled.T @ self._x
        return out

    def rows(self) -> dict[str, Tensor]:
        out = {}
        if "bias" in self._names:
            out[self._names["bias"]] = self._bias
        if "weight" in self._names:
            found = self._weights
            if found is None:
                found = torch.cat([torch.einsum("rld,rlp->rpd", a, g) for a, g in self._unfolded()])
            out[self._names["weight"]] = found.view(-1, *self._layer.weight.shape)
        return out


def _places(values: Tensor, views: int) -> Tensor:
    """``(r V, C, h, w)`` as ``(r, V h w, C)``: the places of all views of a record are places of the record.

    Of channels-last values this is a view.
    """
    return values.permute(0, 2, 3, 1).reshape(len(values) // views, -1, values.shape[1])


def _gram_norms(a: Tensor, g: Tensor) -> Tensor:
    """``||sum_l g_l a_l^T||^2`` of each record, ``(r,)``, without that sum.

    In float64: places that cancel leave little of large terms, and a norm found too small would be clipped too little.
    """
    own, other = a.double(), g.double()
    products = torch.bmm(own, own.transpose(1, 2)) * torch.bmm(other, other.transpose(1, 2))
    norms: Tensor = products.sum((1, 2)).clamp_min(0.0).to(a.dtype)
    return norms
