"""Federated evaluation: each site tests the new parameters under its own BatchNorm and sends counts.

A deployed site sends counts only of labelled images that it has put aside, and only if its policy lets them leave.
What a federated model scores is the mean over sites, with the worst site beside it.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from flwr.app import Message, RecordDict
from flwr.serverapp import Grid

from protos.codec import EVALUATE, WireError, decode, size_of
from protos.wire_pb2 import Evaluation, RoundRequest
from server.choice import mean_score
from server.enrolment import Roll
from server.messaging import exchange
from socket_core.config import Experiment
from socket_core.evaluation import scores


def evaluate_round(grid: Grid, experiment: Experiment, roll: Roll, request: RecordDict, rounds: int) -> dict[str, Any]:
    """Evaluates the state in ``request`` at all sites, if this round is due.

    Returns:
        Counts by site under "held_out" and "transductive", and accuracies; label-free scores under "validation";
        empty if not due.
    """
    asked = decode(request, RoundRequest)
    round_, every = asked.round, experiment.federation.evaluate_every
    due = every > 0 and round_ % every == 0
    if round_ != rounds and not due and experiment.method.validator == "none":
        return {}
    replies = exchange(
        grid,
        dict.fromkeys(roll.sites, request),
        EVALUATE,
        group=str(round_),
        deadline_seconds=experiment.federation.deadline_seconds,
    )
    held_out, transductive, validation = {}, {}, {}
    for node, reply in sorted(replies.items()):
        answer = _read(reply, asked, roll.sites[node], experiment.federation.max_examples)
        if answer is not None:
            held_out[roll.sites[node]] = list(answer.held_out)
            transductive[roll.sites[node]] = list(answer.transductive)
            if answer.HasField("validation"):
                validation[roll.sites[node]] = answer.validation
    return {
        "validation": mean_score(validation),
        "held_out": summary(held_out),
        "transductive": summary(transductive),
        "evaluation_bytes": size_of(request) * len(replies),
    }


def summary(counts: dict[str, list[int]]) -> dict[str, Any]:
    """Mean and worst accuracy over sites, from flat confusion counts by site; empty sites are left out."""
    tables = {site: np.array(c).reshape(round(len(c) ** 0.5), -1) for site, c in sorted(counts.items()) if sum(c)}
    if not tables:
        return {}
    by_site = {site: scores(table) for site, table in tables.items()}
    accuracies = [s.accuracy for s in by_site.values()]
    return {
        "mean": float(np.mean(accuracies)),
        "worst": min(accuracies),
        "by_site": {site: s.accuracy for site, s in by_site.items()},
        "classes_predicted": {site: s.classes_predicted for site, s in by_site.items()},
        "collapsed": sorted(site for site, s in by_site.items() if s.collapsed),
        "confusion": {site: table.tolist() for site, table in tables.items()},
    }


def _read(reply: Message | None, asked: RoundRequest, site: str, limit: int) -> Evaluation | None:
    """A well-formed evaluation of that site and round, else None: metrics never stop a run."""
    if reply is None or not reply.has_content():
        return None
    try:
        answer = decode(reply.content, Evaluation)
    except WireError:
        return None
    counts = (answer.held_out, answer.transductive)
    square = all(math.isqrt(len(c)) ** 2 == len(c) and sum(c) <= limit for c in counts)
    finite = math.isfinite(answer.validation)
    ours = (answer.site, answer.experiment, answer.round) == (site, asked.experiment, asked.round)
    return answer if square and finite and ours else None
