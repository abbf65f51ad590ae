"""Backbone weights from a local file: torchvision's state dicts, as ``.safetensors`` or as the ``.pth`` they come in.

A ``.pth`` file is a pickle. It is read by PyTorch's restricted unpickler, which builds tensors and refuses everything
else, only at the owner's, only from a path that the owner wrote down (docs/adr/0012). Nothing of it is released as a
pickle, and no site reads one.
"""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from socket_core.errors import ConfigError
from socket_core.models import Network

HEADS = ("fc.", "classifier.")
"""What torchvision calls its own classifiers, which have no place here."""

COUNTER = ".num_batches_tracked"
"""Of BatchNorm layers: the files that torchvision publishes are older than this buffer and leave it out."""


def load_backbone(network: Network, path: Path, *, name: str) -> None:
    """Writes the weights of ``path`` into the backbone; bottleneck and classifier stay as they are.

    Args:
        network: A new network.
        path: State dict of torchvision's model of that name.
        name: The backbone, for messages.

    Raises:
        ConfigError: If the file is missing, damaged, not a plain state dict, or of another network.
    """
    given = {_key(key): value for key, value in _read(path).items() if not key.startswith(HEADS)}
    wanted = {key: tuple(value.shape) for key, value in network.backbone.state_dict().items()}
    found = {key: tuple(value.shape) for key, value in given.items()}
    for key in sorted(wanted.keys() | found.keys()):
        if wanted.get(key) != found.get(key) and not (key.endswith(COUNTER) and key not in found):
            raise ConfigError(
                f"key {key!r}: {name} has {wanted.get(key, 'no such tensor')}, the file "
                f"{found.get(key, 'no such tensor')}",
                where=str(path),
                remedy="give the weights of torchvision's model of this name, or correct network.backbone",
            )
    network.backbone.load_state_dict({k: v for k, v in network.backbone.state_dict().items() if k not in given} | given)


def _key(key: str) -> str:
    """Torchvision's VGG calls ``features`` what is the first of three parts here."""
    return "0." + key.removeprefix("features.") if key.startswith("features.") else key


def _read(path: Path) -> dict[str, Tensor]:
    remedy = "give network.weights the path of a state dict, .pth or .safetensors"
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)  # noqa: TID251 (tensors only, see above)
    except FileNotFoundError:
        raise ConfigError("no such file", where=f"network.weights: {path}", remedy=remedy) from None
    except Exception as error:  # a damaged file makes the readers stumble in many ways, a KeyError among them
        raise ConfigError(
            f"cannot be read as a state dict ({type(error).__name__})", where=f"network.weights: {path}", remedy=remedy
        ) from None
    if not isinstance(state, dict) or not all(isinstance(k, str) and isinstance(v, Tensor) for k, v in state.items()):
        raise ConfigError("holds something other than tensors by name", where=f"network.weights: {path}", remedy=remedy)
    return state
