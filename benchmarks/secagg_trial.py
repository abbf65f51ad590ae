"""What secure aggregation by Flower's SecAgg+ costs beside a plain mean, in this process: docs/adr/0017.

Usage: ``python benchmarks/secagg_trial.py [--floats 143584]``

The legacy ``SecAggPlusWorkflow`` is called for one round, as an own round loop would call it, over the in-process
grid; sites are a Message API ``ClientApp`` with ``secaggplus_mod`` as its mod. Updates are drawn, not learned.
Prints a JSON object a round: costs and errors of whole rounds, then what becomes of rounds that sites leave.
"""

from __future__ import annotations

import argparse
import itertools
import json
import logging
import resource
import time
from collections.abc import Iterable, Iterator
from typing import Any, cast

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.client.mod import secaggplus_mod
from flwr.clientapp import ClientApp
from flwr.common import FitIns, FitRes, Parameters, parameters_to_ndarrays
from flwr.common.serde import recorddict_to_proto
from flwr.server import ClientManager, LegacyContext
from flwr.server.client_proxy import ClientProxy
from flwr.server.compat.grid_client_proxy import GridClientProxy
from flwr.server.strategy import FedAvg
from flwr.server.workflow import SecAggPlusWorkflow

from server.aggregation import fedavg
from server.local_grid import LocalGrid
from socket_core.exchange import Flat

EXAMPLES = (22, 54, 31, 61)
"""Images of each site, which its update is weighted by."""
STAGES = ("setup", "share_keys", "collect_masked_vectors", "unmask")
FIRST_NODE = 100
THRESHOLD = 3
"""Shares that bring a key back; each of the four sites holds one."""
SETTINGS = {
    "defaults": {"clipping_range": 8.0, "max_weight": 1000.0},
    "weight fitted": {"clipping_range": 8.0, "max_weight": 64.0},
    "weight and range fitted": {"clipping_range": 0.05, "max_weight": 64.0},
}
"""Flower's own settings, and two that need more knowledge of the sites. Quantisation 2^22, modulus 2^32 in all."""


def drawn(site: int, floats: int) -> Flat:
    """A site's update, (floats,), standard deviation 1e-3, the same in each call."""
    return np.random.default_rng(site).normal(0.0, 1e-3, floats).astype(np.float32)


def make_app(floats: int, *, secure: bool) -> ClientApp:
    """Sites that answer in the records of Flower's legacy API, which the mod reads and empties."""
    app = ClientApp()

    @app.train(mods=[secaggplus_mod] if secure else [])
    def train(message: Message, context: Context) -> Message:
        site = int(str(context.node_config["partition-id"]))
        content = RecordDict()
        content["fitres.parameters"] = ArrayRecord({"0": Array(drawn(site, floats))})
        content["fitres.num_examples"] = MetricRecord({"num_examples": EXAMPLES[site]})
        content["fitres.metrics"] = ConfigRecord()
        content["fitres.status"] = ConfigRecord({"code": 0, "message": ""})
        return Message(content, reply_to=message)

    return app


class TrialGrid(LocalGrid):
    """Counts bytes and the sites' seconds, and lets sites fall silent from a stage on.

    Args:
        app: The sites.
        silent: Stage from which on a node no longer answers, by node.
    """

    def __init__(self, app: ClientApp, silent: dict[int, str] | None = None) -> None:
        sites = enumerate(range(FIRST_NODE, FIRST_NODE + len(EXAMPLES)))
        super().__init__(app, {n: Context(1, n, {"partition-id": i}, RecordDict(), {}) for i, n in sites})
        self.silent, self.up, self.down, self.site_seconds = silent or {}, 0, 0, 0.0

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> list[Message]:
        """Replies of the nodes that still answer; nobody waits for the others."""
        replies = self.pull_messages(self.push_messages(messages))
        self.up += sum(recorddict_to_proto(reply.content).ByteSize() for reply in replies if reply.has_content())
        return replies

    def deliver(self, message: Message) -> Message | None:
        """One node's answer."""
        self.down += recorddict_to_proto(message.content).ByteSize()
        record = message.content.config_records.get("secaggplus_configs", ConfigRecord())
        stage, last = str(record.get("stage", "")), self.silent.get(message.metadata.dst_node_id)
        if stage and last is not None and STAGES.index(stage) >= STAGES.index(last):
            return None
        started = time.process_time()
        reply = super().deliver(message)
        self.site_seconds += time.process_time() - started
        return reply


class OneRound(FedAvg):
    """The part of a strategy that the workflow calls: who takes part, and what came of it."""

    def __init__(self, grid: TrialGrid) -> None:
        super().__init__()
        self._proxies = [GridClientProxy(node, grid, 1) for node in grid.contexts]
        self.mean: Flat | None = None

    def configure_fit(
        self, server_round: int, parameters: Parameters, client_manager: ClientManager
    ) -> list[tuple[ClientProxy, FitIns]]:
        """All nodes; each gets the same parameters."""
        return [(proxy, FitIns(parameters, {})) for proxy in self._proxies]

    def aggregate_fit(
        self, server_round: int, results: list[tuple[ClientProxy, FitRes]], failures: list[Any]
    ) -> tuple[Parameters | None, dict[str, Any]]:
        """Keeps the mean, which the workflow puts in place of each site's update."""
        self.mean = parameters_to_ndarrays(results[0][1].parameters)[0]
        return None, {}


def secure_round(grid: TrialGrid, sent: Flat, setting: dict[str, float]) -> Flat | None:
    """The weighted mean that SecAgg+ makes of one round, or None if the round came to nothing."""
    round_ = ConfigRecord({"current_round": 1})
    state = RecordDict({"config": round_, "parameters": ArrayRecord({"0": Array(sent)})})
    strategy = OneRound(grid)
    workflow = SecAggPlusWorkflow(1.0, THRESHOLD, timeout=5.0, **cast(dict[str, Any], setting))
    workflow(grid, LegacyContext(Context(1, 1, {}, state, {}), strategy=strategy))
    return strategy.mean


def plain_round(grid: TrialGrid, sent: Flat) -> Flat:
    """The same mean of updates that travel as they are."""
    request = RecordDict({"fitins.parameters": ArrayRecord({"0": Array(sent)}), "fitins.config": ConfigRecord()})
    replies = grid.send_and_receive([Message(request, node, "train") for node in grid.contexts])
    replies.sort(key=lambda reply: reply.metadata.src_node_id)
    deltas = [reply.content.array_records["fitres.parameters"]["0"].numpy() for reply in replies]
    weights = [float(str(reply.content.metric_records["fitres.num_examples"]["num_examples"])) for reply in replies]
    return fedavg(deltas, [weight / sum(weights) for weight in weights])


def costs(floats: int) -> Iterator[dict[str, Any]]:
    """A plain round, then a secure one with each of the settings: rows for the table."""
    sent = np.zeros(floats, np.float32)
    plain = np.zeros(0, np.float32)
    for name, setting in {"plain": None, **SETTINGS}.items():
        grid = TrialGrid(make_app(floats, secure=setting is not None))
        started = time.process_time()
        mean = plain_round(grid, sent) if setting is None else secure_round(grid, sent, setting)
        seconds = time.process_time() - started
        if mean is None:
            raise RuntimeError("a round that all sites finished gave no mean")
        plain = mean if setting is None else plain
        error = mean.reshape(-1) - plain
        yield {
            "round": name,
            "largest_error": float(np.abs(error).max()),
            "relative_error": float(np.linalg.norm(error) / np.linalg.norm(plain)),
            "up_per_site": grid.up // len(EXAMPLES),
            "down_per_site": grid.down // len(EXAMPLES),
            "cpu_seconds": round(seconds, 3),
            "cpu_seconds_per_site": round(grid.site_seconds / len(EXAMPLES), 3),
            "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        }


def dropouts(floats: int) -> Iterator[dict[str, Any]]:
    """One or two of four sites fall silent from a stage on: is there a mean, and whose is it?"""
    setting = SETTINGS["weight and range fitted"]
    for leaving in (1, 2):
        for stage in STAGES:
            silent = {FIRST_NODE + site: stage for site in range(leaving)}
            grid = TrialGrid(make_app(floats, secure=True), silent)
            mean = secure_round(grid, np.zeros(floats, np.float32), setting)
            outcome = "no mean"
            for rest in (range(len(EXAMPLES)), range(leaving, len(EXAMPLES))):
                weights = [EXAMPLES[site] / sum(EXAMPLES[site] for site in rest) for site in rest]
                exact = fedavg([drawn(site, floats) for site in rest], weights)
                if mean is not None and np.allclose(mean, exact, atol=1e-6):
                    outcome = f"mean of {len(rest)} sites"
            yield {"leaving": leaving, "silent_from": stage, "outcome": outcome}


def main() -> None:
    """Prints one JSON object a line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--floats", type=int, default=143_584, help="length of an update; the tiny network's")
    floats = parser.parse_args().floats
    logging.getLogger("flwr").setLevel(logging.CRITICAL)
    for row in itertools.chain(costs(floats), dropouts(min(floats, 1000))):
        print(json.dumps(row))


if __name__ == "__main__":
    main()
