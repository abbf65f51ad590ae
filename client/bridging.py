"""Which translator a site works with in a round: the one that was sent, or its own, which never leaves."""

from __future__ import annotations

from collections.abc import Callable

from client.store import SiteStore
from socket_core.config import Experiment
from socket_core.data.types import SiteData
from socket_core.engine import Segment, adapt, make_bridge
from socket_core.exchange import Flat, bridge_specs, load_flat
from socket_core.models import Model
from socket_core.privacy.ledger import Budget
from socket_core.stages import bridge_rounds
from socket_core.translators import Bridge


def sent_bridge(experiment: Experiment, source: Model, flat: Flat) -> Bridge | None:
    """The translator with the parameters that the owner sent."""
    bridge = make_bridge(experiment, source)
    if bridge is not None:
        load_flat(bridge, flat, bridge_specs(bridge))
    return bridge


def own_bridge(
    experiment: Experiment,
    job: str,
    site: str,
    store: SiteStore,
    load_data: Callable[[], SiteData],
    network: Model,
    source: Model,
    budget: Budget | None = None,
) -> Bridge | None:
    """The site's own translator, trained on first use with all the steps of stage 1, then kept at the site.

    Args:
        experiment: Method and length.
        job: Name under which the site keeps state.
        site: Stable name.
        store: The site's folder.
        load_data: Reads the site's images.
        network: The target network, which stays as it is.
        source: The frozen source network.
        budget: What its steps under DP are charged to.

    Returns:
        None for a method without translator.
    """
    bridge, rounds = make_bridge(experiment, source), bridge_rounds(experiment)
    if bridge is None or rounds == 0:
        return bridge  # nothing to learn: plain replication
    kept = store.load_bridge(job)
    if kept is not None:
        bridge.load_state_dict(kept)
        return bridge
    data = load_data()
    for round_ in range(1, rounds + 1):
        segment = Segment(site, round_, experiment.federation.steps, rounds, fresh=False, stage="bridge")
        adapt(network, source, data, experiment, segment, bridge=bridge, budget=budget)
    store.save_bridge(job, bridge.cpu().state_dict())
    return bridge
