"""Who takes part: sites answer under a stable name and receive each release once."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
from flwr.app import Message, RecordDict
from flwr.serverapp import Grid

from protos.codec import ENROL, RELEASE, WireError, decode, encode, kind_of, reason_name
from protos.wire_pb2 import Enrolment, EnrolRequest, Refusal, ReleaseFiles
from server.messaging import collect
from socket_core.config import NAME
from socket_core.errors import FederationError
from socket_core.release import MANIFEST, SIGNATURE, WEIGHTS

SETTLE_SECONDS = 5.0
"""With a quorum but not all sites there, how long to wait for one more."""

ASK_AGAIN = ("no_reply", "site_error", "duplicate_site")
"""Not the site's last word: such nodes are asked again before the next round."""

PAUSE_SECONDS = 1.0
"""Before they are asked again for want of a quorum."""

ASK_AGAIN_SECONDS = 10.0
"""How long a round may wait for those who were silent before."""


@dataclass
class Roll:
    """Sites by Flower node id, and why others are not among them.

    Attributes:
        sites: Name of each node that enrolled and holds all releases.
        refused: Reason by node id.
        absent: Names of sites that took part and whose node is gone.
        names: What refused nodes that said so call themselves.
        counts: Nodes that answer evaluations with counts.
        scores: Nodes that answer with a label-free score if asked for one.
        held: sha256 of the parameters that a node holds; of who is not in it, those of the release.
    """

    sites: dict[int, str] = field(default_factory=dict)
    refused: dict[int, str] = field(default_factory=dict)
    absent: set[str] = field(default_factory=set)
    names: dict[int, str] = field(default_factory=dict)
    counts: set[int] = field(default_factory=set)
    scores: set[int] = field(default_factory=set)
    held: dict[int, bytes] = field(default_factory=dict)

    def may_change(self) -> bool:
        """Whether somebody who is not on it has not said a last word."""
        return any(why in ASK_AGAIN for why in self.refused.values())

    def declined(self) -> dict[str, str]:
        """Why each refused node is not on the roll, by the name it gave, if any and not another's, or its number."""
        found: dict[str, str] = {}
        for node, why in sorted(self.refused.items()):
            name = self.names.get(node, "")
            taken = not name or name in found or name in self.absent or name in self.sites.values()
            found[f"node {node}" if taken else name] = why
        return found

    def ask_again(self, sites: set[str]) -> None:
        """Takes sites off the roll, so that they are asked before the next round what they hold."""
        self.sites = {node: site for node, site in self.sites.items() if site not in sites}


def wait_for_nodes(grid: Grid, *, expected: int, quorum: int, seconds: float) -> list[int]:
    """Node ids, once all expected are there, or a quorum and no newcomer for a while.

    Raises:
        FederationError: If there is no quorum in time.
    """
    end, last_change, nodes = time.monotonic() + seconds, time.monotonic(), list[int]()
    while True:
        now = sorted(grid.get_node_ids())
        if now != nodes:
            nodes, last_change = now, time.monotonic()
        settled = len(nodes) >= quorum and time.monotonic() - last_change > SETTLE_SECONDS
        late = time.monotonic() > end
        if len(nodes) >= expected or settled or (late and len(nodes) >= quorum):
            return nodes
        if late:
            raise FederationError(
                f"{len(nodes)} sites after {seconds:.0f} s, the quorum is {quorum}",
                where="federation.quorum",
                remedy="start more sites, check their connection, or lower the quorum",
            )
        time.sleep(0.2)


def enrol(
    grid: Grid,
    roll: Roll,
    nodes: list[int],
    *,
    experiment: str,
    releases: Mapping[str, Callable[[], dict[str, bytes]]],
    deadline_seconds: float,
    site_privacy: bool = False,
) -> int:
    """Asks newcomers who they are and gives each release to those who lack it.

    Args:
        grid: Flower's grid.
        roll: Updated in place.
        nodes: All nodes online now. Those on the roll and those who declined are not asked again; a site whose
            node is gone leaves the roll, and may come back under another node id.
        experiment: Name of the job.
        releases: By digest, in the order of the sources, what reads a release's files; called only if a site
            lacks them.
        deadline_seconds: For each exchange: one to ask, and one for each release that somebody lacks.
        site_privacy: Whether the federation protects sites as a whole.

    Returns:
        Bytes of release files sent.
    """
    for gone in [n for n in roll.sites if n not in nodes]:
        roll.absent.add(roll.sites.pop(gone))
        roll.held.pop(gone, None)
    for again in [n for n, why in roll.refused.items() if n not in nodes or why in ASK_AGAIN]:
        if roll.refused.pop(again) == "no_reply":
            deadline_seconds = min(deadline_seconds, ASK_AGAIN_SECONDS)
    newcomers = [n for n in nodes if n not in roll.sites and n not in roll.refused]
    if not newcomers:
        return 0
    first, *further = releases
    request = EnrolRequest(experiment=experiment, release_digest=first, further_release_digests=further)
    request.site_privacy = site_privacy
    ask = encode(request)
    replies = collect(grid, dict.fromkeys(newcomers, ask), ENROL, group="enrol", deadline_seconds=deadline_seconds)
    answers = _admit(roll, replies)
    held = {node: {first} if answer.has_release else set() for node, answer in answers.items()}
    for node, answer in answers.items():
        held[node] |= set(answer.further_release_digests)
        for said, nodes_ in ((answer.counts, roll.counts), (answer.scores, roll.scores)):
            (nodes_.add if said else nodes_.discard)(node)
        if answer.parameters_sha256:
            roll.held[node] = answer.parameters_sha256
    total = 0
    for digest, read in releases.items():
        # Who refused an earlier release is off the roll, and is not sent a later one.
        lacking = [node for node, digests in held.items() if digest not in digests and node in roll.sites]
        if lacking:
            total += _give(grid, roll, lacking, read(), deadline_seconds)
    return total


def _give(grid: Grid, roll: Roll, nodes: list[int], files: dict[str, bytes], deadline_seconds: float) -> int:
    """Sends one release; nodes that do not take it leave the roll. Returns the bytes sent."""
    content = _release_message(files)
    sent = collect(grid, dict.fromkeys(nodes, content), RELEASE, group="release", deadline_seconds=deadline_seconds)
    for node in nodes:
        roll.sites.pop(node)
    _admit(roll, sent)
    return len(nodes) * sum(len(data) for data in files.values())


def _admit(roll: Roll, replies: dict[int, Message | None]) -> dict[int, Enrolment]:
    """Puts those who answered on the roll; a name that is taken is refused to the second who claims it."""
    answers = {}
    for node, reply in sorted(replies.items()):
        if reply is None or reply.has_error():
            roll.refused[node] = "no_reply" if reply is None else "site_error"
            continue
        try:
            if kind_of(reply.content) == "Refusal":
                refusal = decode(reply.content, Refusal)
                roll.refused[node] = reason_name(refusal.reason)
                if re.fullmatch(NAME, refusal.site):
                    roll.names[node] = refusal.site
                continue
            enrolment = decode(reply.content, Enrolment)
        except WireError as error:
            roll.refused[node] = f"malformed: {error}"
            continue
        if not re.fullmatch(NAME, enrolment.site):
            roll.refused[node] = "malformed: not a site's name"
            continue
        if enrolment.site in roll.sites.values():
            roll.refused[node] = "duplicate_site"
            continue
        roll.sites[node] = enrolment.site
        roll.absent.discard(enrolment.site)
        answers[node] = enrolment
    return answers


def _release_message(files: dict[str, bytes]) -> RecordDict:
    payload = ReleaseFiles(manifest=files[MANIFEST], signature=files[SIGNATURE])
    return encode(payload, {"weights": np.frombuffer(files[WEIGHTS], dtype=np.uint8)})
