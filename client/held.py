"""The parameters of a round, however they came: whole, as a change to those that the site holds, or not at all.

Whatever the way, their sha256 must be the one that the request names, so that owner and sites work with the same bits.
A site that does not get there says so, and is sent all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import numpy as np
from numpy.typing import NDArray

from client.store import SiteStore
from protos.codec import WireError, sha256
from protos.wire_pb2 import REASON_BASE, REASON_MALFORMED, RoundRequest
from socket_core.exchange import Flat, Spec, flatten, parameters_of
from socket_core.models import Model
from socket_core.packing import Packed, Values, ends_of, stretches


def parameters_for(
    store: SiteStore,
    request: RoundRequest,
    source: Model,
    specs: Sequence[Spec],
    *,
    whole: Flat | None,
    change: NDArray[np.generic] | None,
) -> Flat:
    """The parameters that a request is about; kept for the next one.

    Args:
        store: The site's folder.
        request: With the sha256 that the parameters must have.
        source: The network as released, which a job begins with.
        specs: Keys and shapes of the parameters.
        whole: The parameters, if they came.
        change: What the parameters held are to be changed by, if that came.

    Raises:
        WireError: With ``REASON_BASE`` if the site does not hold what the request builds on, with
            ``REASON_MALFORMED`` if all was sent and is not what the request says.
    """
    if whole is not None:
        found, reason = whole, REASON_MALFORMED
    else:
        wanted = request.parameters_sha256 if change is None else request.base_sha256
        held = store.load_parameters(request.experiment, wanted)
        found = held if held is not None else flatten(parameters_of(source), specs)
        reason = REASON_BASE
    if change is not None:
        found = _moved(found, change, request.scales, specs)
    if sha256(found) != request.parameters_sha256:
        raise WireError(reason, "the parameters are not those that the request names")
    if store.held_digest(request.experiment) != request.parameters_sha256:
        store.save_parameters(request.experiment, found, request.parameters_sha256)
    return found


def _moved(base: Flat, change: NDArray[np.generic], scales: Sequence[float], specs: Sequence[Spec]) -> Flat:
    """The same sum as the owner's, to the bit."""
    if len(scales) != (len(specs) if change.dtype == np.int8 else 0):
        raise WireError(REASON_MALFORMED, f"{len(scales)} scales for {len(specs)} tensors")
    if len(base) != len(change):
        raise WireError(REASON_BASE, f"{len(base)} parameters are held, {len(change)} have changed")
    packed = Packed(cast(Values, change), np.array(scales, np.float32), ends_of(specs))
    out = np.empty_like(base)
    for start, stop in stretches(len(base)):
        with np.errstate(over="ignore", invalid="ignore"):  # of a hostile change; its sum is not the one named
            np.add(base[start:stop], packed.floats(start, stop), out=out[start:stop])
    return out
