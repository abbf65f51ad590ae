"""``python -m tests.soak [--sites 8] [--rounds 50] [--seed 0]``: ``make soak``. An hour or more on two cores.

Every message starts a Python process with PyTorch at each site: a round of eight sites takes a minute or two of two
cores. Ends with 1 if a round is missing, a site's books fail a check, or a process or socket is left over.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

from client.site import open_deployed
from client.verification import verify
from deploy.serve import listens
from tests.e2e.faults import superlink, supernode
from tests.e2e.plants import Plants, gone_from, serve_site, serving_owner, wait_for_site
from tests.server.builders import make_world
from tests.soak.befall import Fate
from tests.soak.memory import Sizes, resident_mb

PRIVACY = {"sigma": 2.0, "sample_rate": 0.5, "expected_batch": 4}
RUN_ATTEMPTS = 20
"""Resumes of one soak: more than SuperLinks are killed in it."""


def plants_in(folder: Path, sites: int, rounds: int) -> Plants:
    """The deployment, with DP on the pairs so that ledgers can be checked at the end."""
    names = [f"site-{index:02d}" for index in range(sites)]
    made = Plants(
        make_world(folder / "world"),
        folder / "plants",
        names,
        federation__rounds=rounds,
        federation__sites=sites,
        federation__quorum=max(1, sites // 2),
        federation__steps=1,
        federation__deadline_seconds=180.0,
        federation__evaluate_every=0,  # the sites have nothing to test on: a second process each for no figure
        method__name="socket",
        method__trust="always",
        privacy={**PRIVACY, "spare_rounds": rounds},
    )
    for name in names:
        with made.changed(name) as raw:
            raw["policy"]["privacy"] |= {"epsilon": 1e5}
            raw["policy"]["max_rounds"] = rounds
    return made


def follow(plants: Plants, fate: Fate, rounds: int, sizes: dict[str, Sizes]) -> bool:
    """Runs the federation, with a fault after each round, and again with ``--resume`` until it has all rounds."""
    options: tuple[str, ...] = ()
    for _ in range(RUN_ATTEMPTS):
        run, struck, measured = plants.start_run(*options), len(plants.records()), -1
        while run.poll() is None:
            done = len(plants.records())
            if done != measured:
                measured = done
                measure(plants, done, sizes)
            if done > struck and done < rounds:
                struck = done
                time.sleep(fate.rng.uniform(0, 10))
                print(f"round {done} of {rounds}; then {fate.strike()}", flush=True)
            time.sleep(1)
        if run.returncode == 0 and len(plants.records()) == rounds:
            return True
        print(f"the run ended with code {run.returncode} after round {len(plants.records())}: resuming", flush=True)
        options = ("--resume",)
        time.sleep(20)  # for the SuperLink's supervisor, and sites that connect again
    return False


def measure(plants: Plants, done: int, sizes: dict[str, Sizes]) -> None:
    """Adds the resident size of each long-lived process, one figure a round."""
    who = {"SuperLink": lambda: superlink(plants)} | {s: (lambda s=s: supernode(plants, s)) for s in plants.sites}
    for name, pid_of in who.items():
        with suppress(AssertionError, OSError):  # it is being restarted this very moment
            pid = pid_of()
            sizes.setdefault(name, Sizes()).add(pid, done, resident_mb(pid))


def main() -> int:
    """Runs, prints a JSON report, and says by its exit code whether all went well."""
    parser = argparse.ArgumentParser(description="A deployed federation with a fault in each round.")
    parser.add_argument("--sites", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    started, sizes = time.monotonic(), dict[str, Sizes]()
    with tempfile.TemporaryDirectory(prefix="socket-soak-") as name:
        plants = plants_in(Path(name), options.sites, options.rounds)
        fate = Fate(plants, random.Random(options.seed))
        with ExitStack() as stack:
            stack.enter_context(serving_owner(plants))
            served = {site: serve_site(plants, site, stack) for site in plants.sites}
            for site, process in served.items():
                wait_for_site(plants, site, process)
            complete = follow(plants, fate, options.rounds, sizes)
        report: dict[str, Any] = {
            "complete": complete,
            "rounds": [record["round"] for record in plants.records()] == list(range(1, options.rounds + 1)),
            "fewest_sites_in_a_round": min((len(record["sites"]) for record in plants.records()), default=0),
            "failed_checks": {s: [c.name for c in verify(open_deployed(plants.site_file(s))).failed] for s in served},
            "processes_gone": gone_from(Path(name)),
            "ports_closed": not listens("127.0.0.1", plants.owner.file.port),
            "faults": dict(fate.seen),
            "memory": {name: seen.summary() for name, seen in sizes.items()},
            "minutes": round((time.monotonic() - started) / 60, 1),
            "settings": vars(options),
        }
    print(json.dumps(report, indent=1))
    sound = [report[key] for key in ("complete", "rounds", "processes_gone", "ports_closed")]
    return 0 if all(sound) and not any(report["failed_checks"].values()) else 1


if __name__ == "__main__":
    with suppress(subprocess.TimeoutExpired):
        sys.exit(main())
    sys.exit(1)
