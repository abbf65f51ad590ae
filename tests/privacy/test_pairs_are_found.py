"""Two places say whether a job looks at TI pairs: configuration, which loads no method, and the methods themselves."""

from __future__ import annotations

import itertools

import pytest

from socket_core.config import MethodConfig, TransferWeights, TranslatorConfig, Weights
from socket_core.config_privacy import uses_pairs
from socket_core.methods import METHODS, needs_pairs

CASES = [
    MethodConfig(
        name=name,  # type: ignore[arg-type]  # each of them
        weights=Weights(ti=ti),
        transfer=TransferWeights(ti=ti),
        translator=TranslatorConfig(kind=kind),  # type: ignore[arg-type]  # likewise
    )
    for name, ti, kind in itertools.product(METHODS, (0.0, 1.0), ("unet", "paper", "replicate"))
]


@pytest.mark.parametrize("method", CASES, ids=lambda m: f"{m.name}-{m.weights.ti:g}-{m.translator.kind}")
def test_nothing_that_a_method_does_with_pairs_goes_unseen_where_dp_is_checked(method: MethodConfig) -> None:
    assert uses_pairs(method) == needs_pairs(method)
