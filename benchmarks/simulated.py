"""Rounds a minute of Flower's own simulation: a SuperLink, Ray, and as many workers as there are cores.

Not among the parts that run by default: it starts Flower and Ray, for minutes. Times are the server's own, from asking
the sites to the new parameters; in the first round Ray's workers start.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml

from benchmarks.federation import CACHE, release_in, render
from benchmarks.harness import Run, Tell, spread
from benchmarks.record import Figure, Part, figure
from benchmarks.sites import SCENES
from benchmarks.subjects import TINY, experiment
from server.app import job_folder
from server.flower_link import stop_group
from server.journal import Journal
from server.simulation import simulation_link
from socket_core.config import Experiment


def records_of(asked: Experiment, tell: Tell) -> list[dict[str, Any]]:
    """What the server writes down of each round."""
    with TemporaryDirectory() as folder:
        home = Path(folder) / "home"
        release_in(home, asked)
        (home / "experiment.yaml").write_text(yaml.safe_dump(asked.model_dump(mode="json")), encoding="utf-8")
        run_config = {"config": "experiment.yaml", "home": str(home), "cache": str(CACHE), "resume": "no"}
        journal, log = Journal(job_folder(home, asked) / "rounds.jsonl"), home / "flower-run.log"
        with simulation_link(home) as link:
            process = link.run(run_config, sites=asked.federation.sites, cpus=os.cpu_count() or 1, log=log)
            told = 0
            try:
                while process.poll() is None:
                    if (done := journal.rounds()) != told:
                        told = done
                        tell(f"{asked.federation.sites} sites over Ray: round {done} of {asked.federation.rounds}")
                    time.sleep(0.3)
                link.finish(process, log)
            finally:
                stop_group(process)
        return journal.read()


def measure(run: Run) -> Part:
    """Four sites that train as in the demo, and two hundred that take one step."""
    few, many = (2, 4) if run.quick else (4, 200)
    limits = {"evaluate_every": 0, "partition": "iid", "enrol_seconds": 3600.0, "deadline_seconds": 3600.0}
    trained = {"sites": few, "quorum": few, "rounds": max(2, run.rounds(6, quick=2)), "steps": 2 if run.quick else 40}
    crowd = {"sites": many, "quorum": many, "rounds": 3, "steps": 1}
    figures = []
    for federation, data, method in (
        (trained, {}, {}),
        (crowd, {"scenes": SCENES}, {"batch": 4}),
    ):
        asked = experiment(TINY, federation=federation | limits, data=data, method=method)
        render(asked, run.tell)
        records = records_of(asked, run.tell)
        name = f"tiny, {federation['sites']} sites, {federation['steps']} steps"
        first, *later = [float(record["train_seconds"]) for record in records]
        answers = sum(len(record["sites"]) for record in records) / (federation["sites"] * len(records))
        figures += [
            Figure(f"{name}: first round, with the start of Ray's workers", first, "s"),
            figure(f"{name}: later rounds by the clock", spread(later), "s"),
            figure(f"{name}: rounds by the clock", spread([60 / seconds for seconds in later]), "per minute"),
            Figure(f"{name}: answers", answers, "x", "asked"),
        ]
    return Part({"rounds": trained["rounds"], "workers": os.cpu_count() or 1, "clock": "wall"}, figures)
