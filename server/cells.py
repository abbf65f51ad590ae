"""The cells of a comparison: what each (method, mode, seed) needs, kept on disk as soon as it is known.

A cell's file names the experiment and the release it belongs to. A comparison that was killed, or is asked
again, takes what fits and runs the rest.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from server.app import job_name
from server.arms import ArmResult, with_steps
from server.choice import best_round
from server.journal import Journal
from server.results import Mode, Row, row_from
from socket_core.config import Experiment
from socket_core.data.catalogue import Share, site_name
from socket_core.data.types import TransferTask
from socket_core.errors import FederationError
from socket_core.evaluation import Confusion, scores
from socket_core.files import write_atomically
from socket_core.methods import METHODS, needs_pairs
from socket_core.privacy.accounting import RECORD, SITE, epsilon
from socket_core.privacy.plan import event_of, planned_steps
from socket_core.privacy.site_plan import own_event, released_event
from socket_core.stages import bridge_rounds, rounds_of, shares_bridge
from socket_core.ti_pairs import probe_size


@dataclass(frozen=True)
class Cell:
    """One row of the table for one seed; ``label`` is what the row is called, by default its method's name.

    ``partition`` is that of the line it stands in, where several lines share one result.
    """

    experiment: Experiment
    mode: Mode
    label: str = ""
    partition: str = ""

    def path(self, home: Path) -> Path:
        """Where its row is kept."""
        return home / "cells" / f"{job_name(self.experiment)}-{self.mode}.json"


def fingerprint(cell: Cell, basis: str) -> str:
    """Identifies what a cell's result depends on: settings, images, source model, versions.

    Args:
        cell: The cell.
        basis: From :func:`basis_of`.
    """
    parts = (version("socket-fl"), version("torch"), cell.experiment.digest(), cell.mode, basis)
    return hashlib.sha256(" ".join(parts).encode()).hexdigest()


def settings_mark(cell: Cell) -> str:
    """As :func:`fingerprint`, without images and source model: what can be told before they are read."""
    parts = (version("socket-fl"), version("torch"), cell.experiment.digest(), cell.mode)
    return hashlib.sha256(" ".join(parts).encode()).hexdigest()


def basis_of(task: TransferTask, release_digest: str) -> str:
    """sha256 of all images and labels and of the release: the same settings on other images are other cells."""
    digest = hashlib.sha256(release_digest.encode())
    for labelled in (task.target_train, task.target_test):
        digest.update(np.ascontiguousarray(labelled.labels).data)
    for images in (task.target_train.images, task.target_test.images, task.ti.rgb, task.ti.target):
        digest.update(repr((images.pixels.shape, images.full_scale)).encode())
        digest.update(np.ascontiguousarray(images.pixels).data)
    return digest.hexdigest()


def kept_row(cell: Cell, home: Path, basis: str) -> Row | None:
    """The row that an earlier run kept, if it belongs to this very cell."""
    try:
        content = json.loads(cell.path(home).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    if content.get("fingerprint") != fingerprint(cell, basis):
        return None
    # One experiment is a method's row in its own comparison and a variant's in another: the label is not its own.
    return row_from(content["row"] | {"label": cell.label})


def keep_row(cell: Cell, home: Path, basis: str, row: Row) -> None:
    """Writes a row for later runs."""
    content = {"fingerprint": fingerprint(cell, basis), "settings": settings_mark(cell), "row": asdict(row)}
    write_atomically(cell.path(home), json.dumps(content).encode())


def row_of_arms(cell: Cell, parts: Sequence[ArmResult]) -> Row:
    """A row from one result for each site, or from the one of the centralised arm."""
    longest = max(len(part.held_out) for part in parts)  # patience may have ended some sooner
    curves = [[scores(c).accuracy for c in part.held_out] for part in parts]
    padded = np.array([curve + curve[-1:] * (longest - len(curve)) for curve in curves])
    return _row(
        cell,
        [part.held_out[part.kept] for part in parts],
        [part.transductive for part in parts],
        [float(v) for v in padded.mean(0)],
        kept_rounds=tuple(part.kept for part in parts),
        steps=sum(part.steps for part in parts),
        visits=sum(part.visits for part in parts),
        seconds=max(part.seconds for part in parts),
    )


def row_of_federation(cell: Cell, journal: Journal, before: float, shares: Sequence[Share]) -> Row:
    """A row from the metrics of a finished federation.

    Args:
        cell: The cell.
        journal: Its ``rounds.jsonl``.
        before: Held-out accuracy of the source model, the first point of the curve.
        shares: What the simulated sites hold, to count the images that their steps saw.
    """
    records, own_rounds = journal.read(), bridge_rounds(cell.experiment)
    best = best_round(records)
    last = next((r for r in records if r["round"] == best), records[-1])
    absent = {site_name(i) for i in range(len(shares))} - set(last.get("held_out", {}).get("confusion", {}))
    if absent:
        raise FederationError(
            f"{', '.join(sorted(absent))} took no part in the last evaluation",
            where=str(journal.path),
            remedy="read what the sites said in flower-run.log, remove this folder and run again",
        )
    method = METHODS[cell.experiment.method.name]
    sites = sorted(last["held_out"]["confusion"])
    each = cell.experiment.federation.steps if method.trains else 0
    took_part = [site for r in records for site in r["sites"]]
    unseen = 0 if shares_bridge(cell.experiment) else own_rounds  # what a site's own translator costs it
    took_part += unseen * sites
    # Rounds of stage 1 leave the network as it is.
    curve = [before] * (1 + own_rounds) + [r["held_out"]["mean"] for r in records if r.get("held_out")]
    spent, unit = site_epsilon(cell.experiment, records)
    per_step = {site_name(i): visits_per_step(cell.experiment, share) for i, share in enumerate(shares)}
    return _row(
        cell,
        [np.array(last["held_out"]["confusion"][s]) for s in sites],
        [np.array(last["transductive"]["confusion"][s]) for s in sites if s in last["transductive"]["confusion"]],
        curve,
        kept_rounds=(last["round"] + unseen,),
        steps=each * len(took_part),
        visits=round(sum(each * per_step[site] for site in took_part)),
        bytes_up=sum(r["bytes_up"] for r in records),
        bytes_down=sum(r["bytes_down"] for r in records),
        evaluation_bytes=sum(r.get("evaluation_bytes", 0) for r in records),
        release_bytes=sum(r["release_bytes"] for r in records),
        seconds=sum(r["train_seconds"] for r in records),
        site_epsilon=spent,
        site_epsilon_unit=unit,
    )


def visits_per_step(experiment: Experiment, share: Share) -> float:
    """Images that one gradient step of a site sees; under DP TI steps count by their expected number of pairs."""
    method, private, pairs = experiment.method, experiment.privacy, len(share.data.ti)
    if method.trust == "agreement":
        pairs -= probe_size(pairs)
    seen = float(min(method.batch, pairs)) if needs_pairs(method) else 0.0
    if private is not None and seen > 0:
        seen = private.expected_batch / private.every
    return min(method.batch, len(share.data.tr)) + seen


def claim_folder(folder: Path, mark: str) -> None:
    """Makes sure that a job's folder holds nothing of a job on another basis, such as other images."""
    note = folder / "basis"
    if folder.exists() and (not note.exists() or note.read_text(encoding="utf-8") != mark):
        shutil.rmtree(folder)
    write_atomically(note, mark.encode())


def _row(
    cell: Cell, held_out: Sequence[Confusion], transductive: Sequence[Confusion], curve: list[float], **rest: Any
) -> Row:
    by_model = [scores(c) for c in held_out]
    accuracies = [s.accuracy for s in by_model]
    summed = np.sum(held_out, axis=0)
    spent, unit = cell_epsilon(cell)
    return Row(
        method=cell.experiment.method.name,
        mode=cell.mode,
        seed=cell.experiment.seed,
        accuracy=float(np.mean(accuracies)),
        worst_site=min(accuracies),
        transductive=float(np.mean([scores(c).accuracy for c in transductive])),
        macro_f1=scores(summed).macro_f1,
        label=cell.label,
        partition=cell.experiment.federation.partition,
        classes_predicted=min(s.classes_predicted for s in by_model),
        prediction_entropy=min(s.prediction_entropy for s in by_model),
        collapsed=any(s.collapsed for s in by_model),
        curve=tuple(curve),
        confusion=tuple(tuple(int(v) for v in line) for line in summed),
        rounds=rounds_of(cell.experiment) if cell.mode != "unadapted" else 0,
        oracle=METHODS[cell.experiment.method.name].oracle,
        validator=cell.experiment.method.validator,
        epsilon=spent,
        epsilon_unit=unit,
        **rest,
    )


def cell_epsilon(cell: Cell) -> tuple[float | None, str]:
    """What the steps of the whole job cost a pair at one place, and its unit; None and "none" without DP."""
    asked = cell.experiment.privacy
    if asked is None or not needs_pairs(cell.experiment.method):
        return None, "none"
    whole = cell.mode == "centralised"
    experiment = with_steps(cell.experiment, cell.experiment.federation.sites) if whole else cell.experiment
    found = epsilon([event_of(experiment, planned_steps(experiment, spare_rounds=0))], asked.delta)
    return found.claim, RECORD.statement(asked.delta)


def site_epsilon(experiment: Experiment, records: Sequence[dict[str, Any]]) -> tuple[float | None, str]:
    """What the rounds charged by the server cost a whole site, and its unit; None and "none" without protection.

    Args:
        experiment: Of the federation.
        records: Of its rounds; the last one knows how many were charged, with those done again.
    """
    asked = experiment.site_privacy
    if asked is None:
        return None, "none"
    charged = int(records[-1]["site_privacy"]["charged"])
    found = epsilon([released_event(experiment, charged)], asked.delta, SITE)
    noise = (
        "noise at the owner, who sees single changes without it"
        if asked.noise == "server"
        else f"noise at the sites, sigma {own_event(experiment).sigma:.3g} towards the owner"
    )
    return found.claim, f"{SITE.statement(asked.delta)}; {noise}"
