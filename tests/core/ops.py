"""What a computation asks of the device: every operation, forward and backward, and those that the host waits for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

WAITS = ("_local_scalar_dense", "nonzero", "is_nonzero", "masked_select", "equal", "unique", "_unique2", "item")
"""Operations whose result the host must have before it can go on: on a GPU each empties the queue of work."""


class Operations(TorchDispatchMode):
    """Writes down the name of every ATen operation while it is active."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # PyTorch's
        self.names: list[str] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        name = func.__name__.split(".")[0]
        by_mask = name.startswith("index") and any(
            isinstance(i, Tensor) and i.dtype == torch.bool
            for i in (args[1] if len(args) > 1 and isinstance(args[1], list | tuple) else ())
        )
        self.names.append("nonzero" if by_mask else name)
        return func(*args, **(kwargs or {}))

    @property
    def waits(self) -> list[str]:
        """Operations for which a GPU's host would wait; an index by a mask counts as the ``nonzero`` that it is."""
        return [name for name in self.names if name in WAITS]
