"""What was wrong with a Flower process, in one sentence that an operator can act on."""

from __future__ import annotations

import re
import signal
from collections.abc import Sequence

_SENTENCES: tuple[tuple[str, str], ...] = (
    (
        r"code: 200[0-9]\]",
        "the owner's SuperLink refused this node: its key is not registered there, or the same key is still "
        "connected (after a crash that takes a minute)",
    ),
    (r"address already in use|Port .* is already in use|Errno 98", "a port is taken: is another one running here?"),
    (
        r"certificate has expired|certificate is not yet valid",
        "the other side's certificate is out of its dates, or this machine's clock is wrong",
    ),
    (r"CERTIFICATE_VERIFY_FAILED|certificate verify failed", "the other side's certificate is of another authority"),
    (r"Exit Code: 302", "the node key cannot be read as an elliptic-curve key: unpack the kit again"),
    (r"Exit Code: 304", "connection.trusted_apps cannot be read: expected key ids and ssh-ed25519 keys in YAML"),
    (r"Exit Code: 305", "the SuperLink could not be reached with this kit: check address, clock and firewall"),
    (r"Exit Code: 105", "the state database was written by another version of Flower: move state/superlink.db away"),
    (r"No space left on device", "the disk is full"),
    (r"MemoryError|Cannot allocate memory", "memory was used up"),
)


def diagnose(name: str, status: int, tail: Sequence[str]) -> str:
    """Why a process ended.

    Args:
        name: Of the process.
        status: Its exit status; negative for a signal.
        tail: Last lines of its output.
    """
    text = "\n".join(tail)
    for pattern, sentence in _SENTENCES:
        if re.search(pattern, text):
            return sentence
    if status == 0:  # nobody asked it to end; Flower says no more when a signed timestamp is refused
        return (
            f"{name} ended by itself: most often the owner's SuperLink refused its timestamps. "
            "Set this machine's clock: it may be 5 s ahead of the owner's at most, and 5 min behind"
        )
    if status < 0:
        killed = signal.Signals(-status).name
        more = ", perhaps because memory was used up" if status == -signal.SIGKILL else ""
        return f"{name} was ended by {killed}{more}"
    last = next((line for line in reversed(tail) if re.search(r"error|exception", line, re.IGNORECASE)), "")
    return f"{name} ended with status {status}" + (f": {last.strip()[:200]}" if last else "; its log has the details")
