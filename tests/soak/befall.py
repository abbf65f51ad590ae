"""One fault a round, drawn by a seed."""

from __future__ import annotations

import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

from socket_core.release import WEIGHTS
from tests.e2e.faults import all_of, clientapps, send, superlink, supernode
from tests.e2e.plants import Plants

STOPPED_SECONDS = 15.0
Fault = Callable[[Plants, str], None]


def kill_supernode(plants: Plants, site: str) -> None:
    """Kill -9 of a site's SuperNode: its supervisor starts another one."""
    send(signal.SIGKILL, [supernode(plants, site)])


def kill_clientapp(plants: Plants, site: str) -> None:
    """Kill -9 of the process that trains, if one is at work."""
    send(signal.SIGKILL, clientapps(plants, site))


def stop_site(plants: Plants, site: str) -> None:
    """SIGSTOP of a site for a while."""
    pids = all_of(plants, site)
    send(signal.SIGSTOP, pids)

    def go_on() -> None:
        time.sleep(STOPPED_SECONDS)
        for pid in pids:
            with suppress(ProcessLookupError):
                send(signal.SIGCONT, [pid])

    threading.Thread(target=go_on, daemon=True).start()


def cut_release(plants: Plants, site: str) -> None:
    """A release in the site's cache loses its second half."""
    for path in sorted((plants.home(site) / "releases").glob(f"*/{WEIGHTS}")):
        content = path.read_bytes()
        path.chmod(0o600)
        path.write_bytes(content[: len(content) // 2])


def kill_superlink(plants: Plants, _site: str) -> None:
    """Kill -9 of the SuperLink: the run ends, and is resumed."""
    send(signal.SIGKILL, [superlink(plants)])


FAULTS: dict[str, tuple[Fault, float]] = {
    "SuperNode killed": (kill_supernode, 3.0),
    "ClientApp killed": (kill_clientapp, 3.0),
    "site stopped": (stop_site, 2.0),
    "release cut": (cut_release, 1.0),
    "SuperLink killed": (kill_superlink, 1.0),
}
"""Each with its share of the draws."""


@dataclass
class Fate:
    """Draws a fault and lets it happen.

    Attributes:
        seen: How often each has happened; a fault whose victim was not there counts as missed.
    """

    plants: Plants
    rng: random.Random
    seen: Counter[str] = field(default_factory=Counter)

    def strike(self) -> str:
        """Lets one fault happen at one site; its name."""
        name = self.rng.choices(list(FAULTS), [share for _, share in FAULTS.values()])[0]
        site = self.rng.choice(self.plants.sites)
        try:
            FAULTS[name][0](self.plants, site)
        except (AssertionError, ProcessLookupError, OSError):  # it is being restarted this very moment
            name = f"{name}, missed"
        self.seen[name] += 1
        return f"{name} ({site})"
