"""What the owner sends each site so that it has a round's parameters: as little as will do.

A site keeps the parameters that it was sent last, and says by their sha256 which those are. Who holds the very ones
gets none, who holds those of the round before gets the step between them, everybody else gets them whole. Only the
owner's memory of this is lost in a crash: sites say it again when they enrol.
"""

from __future__ import annotations

import shutil
import weakref
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from flwr.app import Message, RecordDict
from flwr.serverapp import Grid

from protos.codec import WireError, array_record, decode, kind_of, sha256, size_of
from protos.wire_pb2 import REASON_BASE, Refusal
from server.enrolment import Roll
from server.job import Job, Step, request_for
from server.messaging import exchange
from server.state import ServerState
from server.waiting import Waiting, put_down, unwritable
from socket_core.config import UpdateType
from socket_core.exchange import Flat, Spec
from socket_core.packing import Difference, Packed, as_it_is, pack, stretches
from socket_core.stages import place_of


@dataclass(frozen=True)
class WaitingStep:
    """The step from the parameters of the round before, in a file until it is sent.

    Attributes:
        base_sha256: Of the parameters before it.
        change: What is added to them.
    """

    base_sha256: bytes
    change: Waiting

    def read(self) -> Step:
        """The same, in memory."""
        return Step(self.base_sha256, self.change.packed())


def round_in_place(
    before: ServerState,
    after: ServerState,
    specs: tuple[Spec, ...],
    dtype: UpdateType,
    folder: Path,
    *,
    digest: bytes = b"",
) -> tuple[ServerState, WaitingStep | None]:
    """The state after a round as sites can be brought to it, and the step that does so.

    Owner and sites add the same values to the same parameters and have the same ones then, to the bit. What rounding
    takes away is not lost: the next step starts from the rounded parameters and aims at the unrounded ones. Those, and
    the step, wait in files: memory holds two sets of parameters, as without rounding, and the step while it is made.

    Args:
        before: The state that sites trained from.
        after: As aggregation made it. Its parameters are used up: the rounded ones are put in their place.
        specs: Keys and shapes of the parameters.
        dtype: What a step travels in. In float32 there is none: it would be no smaller than the parameters.
        folder: An own folder, emptied first, for the two files: the one is needed until the checkpoint is there, which
            holds all of the state, the other until the step has been sent.
        digest: sha256 of the parameters of ``before``, if it is known already.

    Raises:
        MethodError: If a parameter has changed beyond what the type holds.
        FederationError: If a file cannot be written.
    """
    if dtype == "float32" or after.parameters is before.parameters:
        return after, None
    base, parameters = before.parameters, after.parameters
    change = pack(Difference(parameters, base), specs, dtype, where="federation.download_dtype")
    aim, step = _in_files(folder, after.round, [as_it_is(parameters), change])
    for start, stop in stretches(len(base)):
        np.add(base[start:stop], change.floats(start, stop), out=parameters[start:stop])
    return replace(after, unrounded=aim), WaitingStep(digest or sha256(base), step)


def _in_files(folder: Path, round_: int, changes: list[Packed]) -> list[Waiting]:
    """The changes of a round, in a file that is alone in its folder."""
    shutil.rmtree(folder, ignore_errors=True)
    try:
        folder.mkdir(parents=True)
    except OSError as error:
        raise unwritable(folder, error) from None
    return put_down(folder / f"round-{round_:05d}.bin", changes)


Way = WaitingStep | Literal["whole", "held"]
"""How a round's parameters come to a site."""


@dataclass(frozen=True)
class Sent:
    """Bytes of requests.

    Attributes:
        parameters: Of the network's parameters, whole or as a step: whichever message brings them, they are there then.
        rest: Of all else.
    """

    parameters: int = 0
    rest: int = 0

    def and_also(self, request: RecordDict, count: int) -> Sent:
        """With one request to so many sites."""
        arrays = array_record(request)
        brought = sum(len(arrays[name].data) for name in ("parameters", "change") if name in arrays)
        return Sent(self.parameters + count * brought, self.rest + count * (size_of(request) - brought))


class Sending:
    """Requests for a job's rounds, and which parameters each site holds.

    Args:
        grid: Flower's grid.
        job: What runs.
        roll: Who takes part.
        initial: Parameters of the release, which every site can work out.
    """

    def __init__(self, grid: Grid, job: Job, roll: Roll, initial: Flat) -> None:
        self._grid, self._job, self._roll = grid, job, roll
        self._initial = sha256(initial)
        self._digest: tuple[weakref.ref[Flat] | None, bytes] = None, b""
        self.step: WaitingStep | None = None

    def ask(
        self,
        state: ServerState,
        nodes: Iterable[int],
        message_type: str,
        take: Callable[[int, Message | None], None],
        *,
        to_train: bool,
        keep_round: int = 0,
        reply_bytes: int = 0,
    ) -> Sent:
        """Sends a round's requests and hands on each reply as it comes, and None for those without one.

        A site that turns out not to hold what it was thought to is asked once more, with all parameters and with a
        deadline of its own.

        Args:
            state: The parameters to work with, and the round.
            nodes: Whom to ask.
            message_type: Flower message type.
            take: As in :func:`server.messaging.exchange`.
            to_train: Whether to train, or to evaluate.
            keep_round: The best round so far.
            reply_bytes: As in :func:`server.messaging.exchange`.

        Returns:
            What was sent.
        """
        sent, left = Sent(), list(nodes)

        def lots(asked: list[int]) -> Iterator[dict[int, RecordDict]]:
            nonlocal sent
            for way, some in self._ways(state, asked):
                request = request_for(
                    self._job,
                    state,
                    to_train=to_train,
                    keep_round=keep_round,
                    by=way.read() if isinstance(way, WaitingStep) else way,
                    digest=self.digest_of(state),
                )
                sent, lot = sent.and_also(request, len(some)), dict.fromkeys(some, request)
                del request  # the lot alone holds it, until it has been sent
                yield lot

        for last in (False, True):
            these, left = left, list[int]()

            def take_one(node: int, reply: Message, last: bool = last, lacking: list[int] = left) -> None:
                if not last and _lacks_base(reply):
                    self._roll.held[node] = b""
                    lacking.append(node)
                else:
                    take(node, reply)

            silent = exchange(
                self._grid,
                lots(these),
                message_type,
                group=str(state.round),
                deadline_seconds=self._job.experiment.federation.deadline_seconds,
                take=take_one,
                reply_bytes=reply_bytes,
            )
            for node in silent:
                take(node, None)
            if not left:
                break
        return sent

    def holds(self, nodes: Iterable[int], state: ServerState) -> None:
        """Notes that sites have worked with the parameters of ``state``, and so keep them."""
        if place_of(self._job.experiment, max(1, state.round)).stage == "adapt":
            self._roll.held.update(dict.fromkeys(nodes, self.digest_of(state)))

    def _ways(self, state: ServerState, nodes: Iterable[int]) -> list[tuple[Way, list[int]]]:
        """How parameters come to nodes: those that get them alike share one request."""
        wanted, step = self.digest_of(state), self.step
        held, by_step, whole = list[int](), list[int](), list[int]()
        for node in nodes:
            has = self._roll.held.get(node, self._initial)
            those = held if has == wanted else by_step if step is not None and has == step.base_sha256 else whole
            those.append(node)
        ways: list[tuple[Way, list[int]]] = [("held", held), (step or "whole", by_step), ("whole", whole)]
        return [(way, some) for way, some in ways if some]

    def digest_of(self, state: ServerState) -> bytes:
        """sha256 of the parameters, worked out once for each array."""
        of, digest = self._digest
        if of is None or of() is not state.parameters:
            digest = sha256(state.parameters)
            self._digest = weakref.ref(state.parameters), digest
        return digest


def _lacks_base(reply: Message) -> bool:
    if not reply.has_content() or kind_of(reply.content) != "Refusal":
        return False
    try:
        return decode(reply.content, Refusal).reason == REASON_BASE
    except WireError:
        return False
