"""Error feedback: what rounding to int8 takes from one round's change is added to the next round's.

Without it a small change that always rounds to 0 would never arrive (Seide et al., INTERSPEECH 2014; Karimireddy et
al., ICML 2019). The residual stays at the site, by job and round: a round that is asked for again begins with the
residual that it had before, and without DP sends the same. An update that the owner never counts takes along the
residual that it carried: half a scale a value at most, beside the whole change that is lost with it. A round that a
site trained in, and leaves out when it is done again, counts as trained.
"""

from __future__ import annotations

from client.store import SiteStore
from protos.wire_pb2 import RoundRequest
from socket_core.exchange import Flat
from socket_core.packing import Packed, stretches
from socket_core.stages import Stage


def with_residual(store: SiteStore, request: RoundRequest, stage: Stage, change: Flat) -> Flat:
    """The change with what earlier rounds still owe, which is added to it in place: it is as large as the network.

    Args:
        store: The site's folder.
        request: Of the round.
        stage: What the round trains; each has residuals of its own.
        change: Flat, of this round.
    """
    residual = store.load_residual(request.experiment, stage, request.round - 1)
    if residual is not None and residual.shape == change.shape:
        change += residual
    return change


def keep_residual(store: SiteStore, request: RoundRequest, stage: Stage, change: Flat, packed: Packed) -> None:
    """Keeps what ``packed`` does not say of ``change``, which becomes that; arguments as for :func:`with_residual`."""
    for start, stop in stretches(len(change)):
        change[start:stop] -= packed.floats(start, stop)
    store.save_residual(request.experiment, stage, request.round, change)
