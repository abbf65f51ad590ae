"""The federated loop: rounds over an explicit state, each a short list of steps that may be interrupted.

Flower's own strategies have no start round, no quorum with a deadline and no hook between steps
(docs/adr/0003). Killing the server between any two steps and resuming gives the same end state, to the bit:
a round changes nothing that a resumed run reads until its checkpoint is renamed into place.
"""

from __future__ import annotations

import itertools
import secrets
import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from flwr.app import Message
from flwr.serverapp import Grid

from protos.codec import TRAIN, reason_name
from protos.wire_pb2 import REASON_RELEASE
from server.aggregation import SiteUpdate, apply
from server.checkpoint import (
    Identity,
    load_newest,
    newest_round,
    read_checkpoint,
    save_checkpoint,
    write_checkpoint,
)
from server.choice import best_round, is_over
from server.enrolment import PAUSE_SECONDS, Roll, enrol, wait_for_nodes
from server.evaluation import evaluate_round
from server.intake import Intake
from server.job import Job
from server.journal import Journal
from server.protection import Protection
from server.screening import Expectation, Rejected
from server.sending import Sending, Sent, round_in_place
from server.state import ServerState, init
from socket_core.combined import combine, combined_digest
from socket_core.engine import make_bridge
from socket_core.errors import FederationError
from socket_core.exchange import Flat, batchnorm_specs, bridge_specs, flatten, length, parameters_of, travelling_specs
from socket_core.packing import as_it_is, norm_of
from socket_core.release import pack_release
from socket_core.stages import Stage, place_of

LACKS_RELEASE = reason_name(REASON_RELEASE)
"""Why a site whose kept release was damaged leaves a round out: it gets the release again before the next one."""

ROUNDING = "rounding"
"""Folder of a job's home for what rounding leaves until it is sent; there while a job runs."""

Observer = Callable[[str, dict[str, Any]], None]
"""Called with the name of a step that has just ended, and facts about it."""


def run(grid: Grid, job: Job, observe: Observer | None = None) -> ServerState:
    """Runs a federation to its last round.

    Args:
        grid: Flower's grid, or one in process.
        job: What to run.
        observe: Told of each step; an exception from it ends the run, as a kill would.

    Returns:
        The state after the last round, or with a validator after the round that scored best.

    Raises:
        FederationError: If the quorum is not reached or a checkpoint does not fit; the newest checkpoint
            stays valid, and a run with ``resume`` goes on from it.
    """
    try:
        return _run(_Session(grid, job, observe or (lambda _step, _facts: None)))
    finally:
        shutil.rmtree(job.home / ROUNDING, ignore_errors=True)


def _run(session: _Session) -> ServerState:
    grid, job = session.grid, session.job
    state, record = _open(job, session.identity, session.journal)
    if session.protection is not None:
        session.protection.check(state)
    federation = job.experiment.federation
    nodes = wait_for_nodes(grid, expected=federation.sites, quorum=federation.quorum, seconds=federation.enrol_seconds)
    session.tell("nodes", {"nodes": len(nodes)})
    session.gather(state, nodes)
    sites, refused = session.roll.sites, session.roll.refused
    session.tell("enrolled", {"sites": sorted(sites.values()), "refused": sorted(refused.values())})
    if record is not None:  # killed after a checkpoint and before its metrics were written
        session.close_round(state, record)
    while state.round < job.rounds and not is_over(session.journal.scores(), federation.patience):
        state, record = session.train_round(state)
        state = save_checkpoint(job.home / "checkpoints", state, session.identity, record)
        session.tell("checkpoint saved", {"round": state.round})
        session.close_round(state, record)
        if state.round < job.rounds:  # who came meanwhile takes part from the next round on
            session.enrol(state, sorted(grid.get_node_ids()))
    return session.chosen(state)


class _Session:
    """What stays the same through a run, and the steps of a round."""

    def __init__(self, grid: Grid, job: Job, tell: Observer) -> None:
        self.grid, self.job, self.tell = grid, job, tell
        self.roll = Roll()
        self.identity = Identity(job.experiment.digest(), combined_digest(job.digests))
        self.journal = Journal(job.home / "rounds.jsonl")
        self.protection: Protection | None = None
        if job.experiment.site_privacy is not None:  # before checkpoints are cleared: they tell that a ledger was here
            released = newest_round(job.home / "checkpoints", self.identity) is not None
            self.protection = Protection(job.experiment, job.home, released=released)
        self._release_bytes = 0
        self._best = job.home / "checkpoints" / "best.safetensors"
        source, policy = combine(job.releases), job.experiment.federation.bn_policy
        bridge = make_bridge(job.experiment, source)
        self._tensors = {
            "adapt": travelling_specs(source, policy),
            "bridge": bridge_specs(bridge) if bridge is not None else (),
        }
        self._batchnorm = batchnorm_specs(source, policy)
        initial = flatten(parameters_of(source), self._tensors["adapt"])
        self.sending = Sending(grid, job, self.roll, initial)

    def enrol(self, state: ServerState, nodes: list[int]) -> None:
        """Asks newcomers who they are, and gives each release to those who lack it."""
        folders = (self.job.release_folder, *(folder for _, folder in self.job.further))
        self._release_bytes += enrol(
            self.grid,
            self.roll,
            nodes,
            experiment=state.experiment,
            releases={d: partial(pack_release, f) for d, f in zip(self.job.digests, folders, strict=True)},
            deadline_seconds=self.job.experiment.federation.enrol_seconds,
            site_privacy=self.job.experiment.site_privacy is not None,
        )

    def gather(self, state: ServerState, nodes: list[int]) -> None:
        """Enrols, and asks those that failed again while there is no quorum: on a busy machine a start may fail."""
        federation = self.job.experiment.federation
        end = time.monotonic() + federation.enrol_seconds
        self.enrol(state, nodes)
        while len(self.roll.sites) < federation.quorum and self.roll.may_change() and time.monotonic() < end:
            time.sleep(PAUSE_SECONDS)
            self.enrol(state, sorted(self.grid.get_node_ids()))

    def train_round(self, state: ServerState) -> tuple[ServerState, dict[str, Any]]:
        """The state after one more round, and the round's record.

        Raises:
            FederationError: If the quorum is not reached.
        """
        started, federation = time.monotonic(), self.job.experiment.federation
        stage = place_of(self.job.experiment, state.round + 1).stage
        protection, size = self.protection, length(self._tensors[stage])
        expected = Expectation(
            experiment=state.experiment,
            round=state.round + 1,
            tensors=self._tensors[stage],
            batchnorm=self._batchnorm if stage == "adapt" else (),
            parameter_norm=norm_of(as_it_is(_trained(state, stage))),
            max_examples=federation.max_examples,
            max_relative_update=federation.max_relative_update,
            largest_share=protection.largest_share(size) if protection is not None else None,
            dtype=federation.update_dtype,
        )
        self.tell("round opened", {"round": expected.round})
        with Intake(self.job.home / "arriving", expected) as intake:
            sent = self._ask(replace(state, round=expected.round), intake, size)
            updates, refused = intake.updates(), intake.refused
            declined = self.roll.declined()
            self.tell("replies screened", {"accepted": [u.site for u in updates], "refused": _named(refused)})
            _require_quorum(updates, refused, self.roll, federation.quorum, expected.round)
            blur, charged = protection.spend(state.experiment, updates) if protection is not None else (None, {})
            after = apply(state, updates, federation.weighting, stage, blur)
        folder, specs, digest = self.job.home / ROUNDING, self._tensors["adapt"], self.sending.digest_of(state)
        state, self.sending.step = round_in_place(state, after, specs, federation.download_dtype, folder, digest=digest)
        self.tell("aggregated", {"round": state.round})
        seconds, release_bytes, self._release_bytes = time.monotonic() - started, self._release_bytes, 0
        record = _record(state, updates, refused) | {"stage": stage} | charged
        record |= {"bytes_down": sent.parameters + sent.rest, "bytes_up": intake.bytes_up}
        record |= {"absent": sorted(self.roll.absent), "declined": declined, "release_bytes": release_bytes}
        self.roll.ask_again({site for site, why in refused.items() if why.detail == LACKS_RELEASE})
        return state, record | {"train_seconds": round(seconds, 3)}

    def _ask(self, state: ServerState, intake: Intake, size: int) -> Sent:
        """Asks all sites to train and gives each reply to ``intake`` as it comes."""
        sites, done = self.roll.sites, itertools.count(1)

        def take(node: int, reply: Message | None) -> None:
            if intake.take(sites[node], reply):
                self.sending.holds([node], state)
            if reply is not None:
                self.tell("reply", {"done": next(done), "of": len(sites)})

        weight = size * np.dtype(self.job.experiment.federation.update_dtype).itemsize
        best = best_round(self.journal.scores()) or 0
        return self.sending.ask(state, list(sites), TRAIN, take, to_train=True, keep_round=best, reply_bytes=weight)

    def close_round(self, state: ServerState, record: dict[str, Any]) -> None:
        """Evaluates the new state where that is due, and writes the round's metrics."""
        experiment = self.job.experiment
        if place_of(experiment, state.round).stage == "adapt":
            found = evaluate_round(self.sending, experiment, self.roll, state, self.job.rounds)
            record["bytes_down"] += found.pop("parameter_bytes", 0)
            record |= found
        self.tell("evaluated", {"round": state.round})
        if best_round([*self.journal.scores(), record]) == state.round:
            write_checkpoint(self._best, state, self.identity, record)
        self.journal.append(record)
        self.tell("round closed", record)

    def chosen(self, state: ServerState) -> ServerState:
        """The state of the best round, or ``state``, the last, if rounds are not scored."""
        if best_round(self.journal.scores()) in (None, state.round):
            return state
        return read_checkpoint(self._best, self.identity)[0]


def _trained(state: ServerState, stage: Stage) -> Flat:
    """The flat parameters that a round of ``stage`` changes."""
    return state.bridge if stage == "bridge" and state.bridge is not None else state.parameters


def _open(job: Job, identity: Identity, journal: Journal) -> tuple[ServerState, dict[str, Any] | None]:
    """The state to go on from, and the record of its round if that was not written yet."""
    folder = job.home / "checkpoints"
    go_on = job.resume == "yes" or (job.resume == "auto" and newest_round(folder, identity) is not None)
    newest = load_newest(folder, identity) if go_on else None
    if newest is None:
        _clear(folder, identity, job)
        journal.truncate(0)
        # A random name keeps the state that sites hold for this job apart from that of an earlier one.
        name = f"{job.experiment.name}-{secrets.token_hex(6)}"
        return init(combine(job.releases), job.experiment, name), None
    state, record = newest
    journal.truncate(state.round)
    return state, record if journal.rounds() < state.round else None


def _clear(folder: Path, identity: Identity, job: Job) -> None:
    """Removes checkpoints of finished or different jobs; an unfinished one of this job is not thrown away."""
    if job.resume == "no" and newest_round(folder, identity) not in (None, job.rounds):
        raise FederationError(
            "an unfinished run of this very experiment lies here",
            where=str(folder),
            remedy='go on with resume="yes", or remove this folder to start over',
        )
    for old in (*folder.glob("round-*.safetensors"), folder / "best.safetensors"):
        old.unlink(missing_ok=True)


def _require_quorum(
    updates: list[SiteUpdate], refused: dict[str, Rejected], roll: Roll, quorum: int, round_: int
) -> None:
    if len(updates) >= quorum:
        return
    reasons = [f"{site}: {rejected}" for site, rejected in sorted(refused.items())]
    reasons += [f"node {node} did not enrol: {reason}" for node, reason in sorted(roll.refused.items())]
    why = "; ".join(reasons) or "no other site enrolled"
    raise FederationError(
        f"{len(updates)} usable updates in round {round_}, the quorum is {quorum} ({why})",
        where="federation.quorum",
        remedy='mend the sites named, then run again with resume="yes": the last checkpoint is intact',
    )


def _record(state: ServerState, updates: list[SiteUpdate], refused: dict[str, Rejected]) -> dict[str, Any]:
    return {
        "round": state.round,
        "sites": [u.site for u in updates],
        "examples": [u.examples for u in updates],
        "refused": _named(refused),
    }


def _named(refused: dict[str, Rejected]) -> dict[str, str]:
    return {site: str(rejected) for site, rejected in sorted(refused.items())}
