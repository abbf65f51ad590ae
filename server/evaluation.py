"""Federated evaluation: each site tests the new parameters under its own BatchNorm and sends counts.

A deployed site sends counts only of labelled images that it has put aside, and only if its policy lets them leave.
What a federated model scores is the mean over sites, with the worst site beside it.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from flwr.app import Message

from protos.codec import EVALUATE, WireError, decode
from protos.wire_pb2 import Evaluation
from server.choice import mean_score
from server.enrolment import Roll
from server.sending import Sending
from server.state import ServerState
from socket_core.config import Experiment
from socket_core.evaluation import scores


def evaluate_round(
    sending: Sending, experiment: Experiment, roll: Roll, state: ServerState, rounds: int
) -> dict[str, Any]:
    """Evaluates the state at all sites that would answer with something, if this round is due.

    Returns:
        Counts by site under "held_out" and "transductive", and accuracies; label-free scores under "validation"; bytes
        sent, those of parameters apart: who has them need not be sent them to train. Empty if not due.
    """
    if not is_due(experiment, state.round, rounds):
        return {}
    answers: dict[str, Evaluation] = {}

    def take(node: int, reply: Message | None) -> None:
        answer = _read(reply, state, roll.sites[node], experiment.federation.max_examples)
        if answer is not None:
            answers[roll.sites[node]] = answer
            sending.holds([node], state)

    sent = sending.ask(state, _who_answers(experiment, roll), EVALUATE, take, to_train=False)
    validation = {site: a.validation for site, a in sorted(answers.items()) if a.HasField("validation")}
    held_out = {site: list(a.held_out) for site, a in answers.items()}
    transductive = {site: list(a.transductive) for site, a in answers.items()}
    return {
        "validation": mean_score(validation),
        "held_out": summary(held_out),
        "transductive": summary(transductive),
        "parameter_bytes": sent.parameters,
        "evaluation_bytes": sent.rest,
    }


def is_due(experiment: Experiment, round_: int, rounds: int) -> bool:
    """Whether a round's state is to be evaluated: the last, every so many as asked for, all if rounds are scored."""
    every = experiment.federation.evaluate_every
    return round_ == rounds or (every > 0 and round_ % every == 0) or experiment.method.validator != "none"


def _who_answers(experiment: Experiment, roll: Roll) -> list[int]:
    """Nodes that have counts or a score to answer with: deployed, each question is a process that is started."""
    scored = experiment.method.validator != "none"
    return [node for node in roll.sites if node in roll.counts or (scored and node in roll.scores)]


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


def _read(reply: Message | None, asked: ServerState, site: str, limit: int) -> Evaluation | None:
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
