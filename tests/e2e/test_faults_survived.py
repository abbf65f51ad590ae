"""One deployed federation with DP to which everything happens; it ends, and no ledger has counted too little.

Six rounds over TLS. Processes are struck in the midst of real work: when a site has charged its ledger for the round
and not yet answered. The script is :func:`_live_through`; each test reads one thing out of what it left behind.
"""

from __future__ import annotations

import signal
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from client.site import open_deployed
from client.verification import Verification, verify
from socket_core.config import load_experiment
from socket_core.release import WEIGHTS
from tests.e2e import faults
from tests.e2e.plants import START_SECONDS, Plants, gone_from, serve_site, serving_owner, wait_for_site, wait_until
from tests.server.builders import World

SITES = ("east", "north", "south", "west", "late")
EXPERIMENT: dict[str, Any] = {
    "method__trust": "always",
    "privacy": {"sigma": 8.0, "sample_rate": 0.5, "expected_batch": 4, "every": 100, "spare_rounds": 3},
    "federation__sites": 5,
    "federation__quorum": 1,
    "federation__rounds": 6,
    "federation__steps": 100,
    "federation__evaluate_every": 0,
    "federation__deadline_seconds": START_SECONDS,
}
BEHIND_SECONDS = -240.0
"""How wrong the late site's clock is: almost as much as Flower takes."""
BACK_SECONDS = 100.0
"""The least deadline of the round in which processes are struck: a dead SuperNode's key is free after a minute."""


@dataclass
class Story:
    """What is left when all is over.

    Attributes:
        exits: Exit codes of ``socket-owner run``, and of the same with ``--resume``.
        records: Lines of ``rounds.jsonl``.
        charged: Rounds in each site's ledger, in order.
        sent: Rounds of the updates in each site's journal, in order.
        books: What checking each site's books found.
        times: Seconds from the start at which things were seen.
    """

    plants: Plants
    exits: list[int] = field(default_factory=list)
    records: list[dict[str, Any]] = field(default_factory=list)
    charged: dict[str, list[int]] = field(default_factory=dict)
    sent: dict[str, list[int]] = field(default_factory=dict)
    books: dict[str, Verification] = field(default_factory=dict)
    times: dict[str, float] = field(default_factory=dict)

    def mark(self, what: str) -> None:
        """Notes and prints when something was seen."""
        self.times[what] = time.monotonic()
        print(f"{self.times[what] - min(self.times.values()):7.1f} s {what}", flush=True)

    def refused(self, round_: int) -> dict[str, str]:
        """Who was left out of a round, and why."""
        found: dict[str, str] = self.records[round_ - 1]["refused"]
        return found


@pytest.fixture(scope="module")
def story(world: World, tmp_path_factory: pytest.TempPathFactory) -> Story:
    """All of it, once."""
    told = Story(Plants(world, tmp_path_factory.mktemp("faults"), SITES, **EXPERIMENT))
    disk = faults.Disk(told.plants, "south")
    told.mark("the small disk is a tmpfs" if disk.mounted else "the small disk is RLIMIT_FSIZE")
    try:
        with ExitStack() as stack:
            stack.enter_context(serving_owner(told.plants))
            _live_through(told, disk, stack)
        told.mark("all stopped")
        assert gone_from(told.plants.folder)
    finally:
        disk.unmount()
    for site in SITES:
        told.charged[site] = faults.rounds_charged(told.plants, site)
        told.sent[site] = faults.rounds_sent(told.plants, site)
        told.books[site] = verify(open_deployed(told.plants.site_file(site)))
    return told


def _live_through(told: Story, disk: faults.Disk, stack: ExitStack) -> None:
    plants = told.plants
    served = {site: serve_site(plants, site, stack) for site in SITES[:4]}
    for site, process in served.items():
        wait_for_site(plants, site, process)
    told.mark("four sites connected")
    run = plants.start_run()
    stack.callback(run.kill)

    def seen(what: str, done: Any) -> None:
        wait_until(done, run, lambda: f"{what}: {plants.records()} {plants.output('run').read_text()}")
        told.mark(what)

    def charged(site: str, round_: int) -> Any:
        return lambda: round_ in faults.rounds_charged(plants, site)

    # Round 2: the SuperLink dies, and the run with it.
    seen("round 1 done", lambda: len(plants.records()) == 1)
    seen("round 2 charged at east", charged("east", 2))
    owner, before = plants.output("owner"), len(plants.output("owner").read_text())
    faults.send(signal.SIGKILL, [faults.superlink(plants)])
    told.mark("SuperLink killed")
    told.exits.append(plants.finished(run))
    told.mark("run ended")
    wait_until(lambda: "4 of 5 sites connected" in owner.read_text()[before:], served["east"], owner.read_text)
    told.mark("sites connected to the next SuperLink")
    _set_deadline(plants, max(BACK_SECONDS, 2 * plants.records()[0]["train_seconds"]))
    run = plants.start_run("--resume")
    stack.callback(run.kill)

    # Round 3: one site's SuperNode dies, another's ClientApp, a third stands still, a fourth comes.
    seen("round 2 done", lambda: len(plants.records()) == 2)
    seen("round 3 charged at south", charged("south", 3))
    faults.send(signal.SIGKILL, faults.clientapps(plants, "south"))
    seen("round 3 charged at west", charged("west", 3))
    standing = faults.all_of(plants, "west")
    faults.send(signal.SIGSTOP, standing)
    stack.callback(lambda: faults.send(signal.SIGCONT, [pid for pid in standing if Path(f"/proc/{pid}").exists()]))
    seen("round 3 charged at north", charged("north", 3))
    faults.send(signal.SIGKILL, [faults.supernode(plants, "north")])
    told.mark("south, west and north struck")
    clock = faults.wrong_clock(plants.folder / "clock", BEHIND_SECONDS)
    served["late"] = serve_site(plants, "late", stack, environment=clock)
    wait_for_site(plants, "late", served["late"])
    told.mark("late connected")
    seen("round 3 done", lambda: len(plants.records()) == 3)
    faults.send(signal.SIGCONT, standing)

    # Round 4: a full disk and a damaged release; after it a site leaves for good.
    disk.fill()
    [weights] = (plants.home("east") / "releases").glob(f"*/{WEIGHTS}")
    weights.write_bytes(weights.read_bytes()[:1000])
    told.mark("south's disk full, east's release cut, west goes on")
    seen("round 4 done", lambda: len(plants.records()) == 4)
    disk.mend()
    served["late"].send_signal(signal.SIGTERM)
    told.mark("south's disk has room, late told to stop")
    told.exits.append(plants.finished(run))
    told.mark("run ended again")
    told.records = plants.records()


def _set_deadline(plants: Plants, seconds: float) -> None:
    raw = yaml.safe_load(plants.bench.config.read_text())
    raw["federation"]["deadline_seconds"] = seconds
    plants.bench.config.write_text(yaml.safe_dump(raw))


pytestmark = pytest.mark.flwr


def test_the_run_ends_with_its_superlink_and_the_resumed_one_goes_on(story: Story) -> None:
    assert story.exits == [6, 0], story.plants.output("run").read_text()
    assert [record["round"] for record in story.records] == [1, 2, 3, 4, 5, 6]
    assert [record["sites"] for record in story.records[:2]] == [["east", "north", "south", "west"]] * 2
    assert "restarts 1" in story.plants.output("owner").read_text()
    assert "ended by SIGKILL" in story.plants.output("owner").read_text()


def test_struck_sites_are_left_out_of_their_round_and_come_back(story: Story) -> None:
    assert story.records[2]["sites"] == ["east"]
    assert sorted(story.refused(3)) == ["north", "south", "west"]
    assert {why.split(":")[0] for why in story.refused(3).values()} <= {"site_error", "no_reply"}
    # North's key is free a minute after its SuperNode's death: it may miss a round or two more.
    assert {"south", "west"} <= set(story.records[4]["sites"])
    assert (story.records[5]["sites"], story.refused(6)) == (["east", "north", "south", "west"], {})
    assert "ended by SIGKILL" in story.plants.output("north").read_text()


def test_a_site_whose_clock_is_four_minutes_behind_joins_later_and_leaves_for_good(story: Story) -> None:
    assert ["late" in record["sites"] for record in story.records] == [False, False, False, True, False, False]
    after = story.records[4]
    assert "late" in {*after["absent"], *after["refused"]}
    assert story.records[5]["absent"] == ["late"]
    assert after["train_seconds"] < load_experiment(story.plants.bench.config).federation.deadline_seconds


def test_a_full_disk_and_a_cut_release_cost_one_round_each(story: Story) -> None:
    assert (story.refused(4)["east"], story.refused(4)["south"]) == ("refused: release", "refused: policy")
    assert story.records[4]["release_bytes"] > 0
    assert {"east", "south"} <= set(story.records[4]["sites"])


def test_no_ledger_counts_less_than_left(story: Story) -> None:
    for site in SITES:
        assert [check.text for check in story.books[site].failed] == []
        taken = [record["round"] for record in story.records if site in record["sites"]]
        assert set(taken) <= set(story.sent[site]) <= set(story.charged[site])
        assert all(story.sent[site].count(n) <= story.charged[site].count(n) for n in range(1, 7))
    # Work that came to nothing is charged: it had been written down first.
    assert [3 in story.charged[site] for site in ("north", "south", "west")] == [True] * 3
    assert 3 not in {*story.sent["north"], *story.sent["south"]}
    assert story.charged["east"] == [1, 2, 2, 3, 5, 6]
    assert 4 not in story.charged["south"]


def test_the_owner_learns_reasons_and_no_words(story: Story) -> None:
    for path in [*story.plants.bench.home.rglob("rounds.jsonl"), *story.plants.owner.logs.glob("*.log")]:
        text = path.read_text()
        assert str(story.plants.folder / "sites") not in text
        assert "disk is full" not in text
        assert "the cached release" not in text
