"""Who was in the training set? A membership attack on one site's updates, with and without DP on TI pairs.

Each image and each pair of the attacked site is in the job by the toss of a coin; the attacker, who sees all updates
that left the site, tells those that were in from those that were not. This is the game that epsilon is about, and
members and others are alike but for the coin. Nothing here is tuned: scores, sizes and seeds are fixed below.

Usage: ``python scripts/membership_study.py --out docs/results/membership.json --figure docs/img/membership.png``
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
import yaml
from flwr.app import Context, Message, RecordDict

from client import handlers
from client.attack import Others, Scored, kept_rounds, score_site
from client.attack_report import plain_roc, plain_spent, spent_on
from client.roc_figure import TITLES, curve_of, draw
from client.site import Holdings, Site, open_site
from client.store import SiteStore
from protos.codec import ENROL, EVALUATE, RELEASE, TRAIN
from server import rounds
from server.job import Job
from server.local_grid import LocalGrid
from server.owner import ensure_release
from server.results import environment
from server.sources import source_files
from socket_core.config import Experiment, load_experiment, parse_experiment
from socket_core.data.catalogue import site_name
from socket_core.data.types import Index, SiteData
from socket_core.errors import SocketError
from socket_core.files import write_atomically
from socket_core.privacy.accounting import Epsilon
from socket_core.privacy.membership import roc, standardise
from socket_core.seeds import derive_seed

ROOT = Path(__file__).resolve().parent.parent
SEEDS = (0, 1, 2)
ATTACKED = site_name(0)
PRIVACY = {"epsilon": 3.0, "delta": 1e-5, "sample_rate": 0.2, "expected_batch": 30, "clip": 1.0, "scope": "bottleneck"}
ARMS: dict[str, dict[str, Any] | None] = {"without DP": None, "with DP": PRIVACY}
JOB = {"partition": "iid", "sites": 2, "rounds": 3, "steps": 30}
SCENES = {"target_train": 800, "ti": 600}
"""About 200 images and 150 pairs in the job at the attacked site, and as many that are not."""

QUICK = {"source_train": 32, "source_test": 8, "target_train": 48, "target_test": 8, "ti": 48}
HANDLERS = {
    ENROL: handlers.enrol,
    RELEASE: handlers.receive_release,
    TRAIN: handlers.train_round,
    EVALUATE: handlers.evaluate_round,
}


@dataclass(frozen=True)
class Trial:
    """One arm with one seed: all scores, and what the job has spent on pairs; None without DP."""

    seed: int
    scored: list[Scored]
    spent: Epsilon | None


def experiment_for(seed: int, privacy: dict[str, Any] | None, *, quick: bool) -> Experiment:
    """SOCKET on the demo's scenes, other scenes for each seed; both arms differ in nothing but ``privacy``."""
    raw = load_experiment(ROOT / "configs" / "demo.yaml").model_dump(mode="json")
    raw |= {"name": "membership", "seed": seed, "privacy": privacy}
    raw["data"]["seed"] = seed
    raw["method"] |= {"name": "socket", "trust": "always", "ti_loss": "per_sample"}
    raw["federation"] |= JOB
    raw["data"]["scenes"] |= SCENES
    raw["source"]["epochs"] = 10
    if quick:
        raw["data"]["scenes"] |= QUICK
        raw["source"] |= {"epochs": 1, "batch": 8}
        raw["method"] |= {"batch": 4}
        raw["federation"] |= {"rounds": 2, "steps": 3}
    return parse_experiment(raw, where="membership study")


def tossed(count: int, seed: int, kind: str) -> Index:
    """Whether each image is in the job, ``(count,)``: 1 or 0, by a fair coin."""
    return np.random.default_rng(derive_seed(seed, ATTACKED, "coin", kind)).integers(0, 2, count)


def divided(data: SiteData, seed: int) -> tuple[SiteData, Others]:
    """What the attacked site trains on, and what the coin kept from it."""
    tr, ti = tossed(len(data.tr), seed, "tr"), tossed(len(data.ti), seed, "ti")
    inside, outside = ((np.flatnonzero(tr == side), np.flatnonzero(ti == side)) for side in (1, 0))
    used = SiteData(data.tr.take(inside[0]), data.ti.take(inside[1]))
    return used, Others(data.tr.take(outside[0]), data.ti.take(outside[1]))


def open_tossed(context: Context, seed: int, folder: Path) -> Site:
    """A simulated site without labels, at home in ``folder``; the attacked one has its half and keeps what it sends."""
    site = open_site(context)

    def load(experiment: Experiment) -> Holdings:
        data = site.load(experiment).data
        return Holdings(divided(data, seed)[0] if site.name == ATTACKED else data)

    return replace(site, load=load, store=SiteStore(folder / site.name), keep_sent=site.name == ATTACKED)


def run_trial(experiment: Experiment, home: Path, cache: Path) -> Trial:
    """Runs one federation in this process and attacks one site."""
    ensure_release(experiment, home, cache, confirm_batchnorm=True, say=_say)
    torch.set_num_threads(experiment.threads)
    private, seed = experiment.privacy is not None, experiment.seed
    folder = home / f"seed{seed}-{'dp' if private else 'plain'}"
    config = folder / "experiment.yaml"
    write_atomically(config, yaml.safe_dump(experiment.model_dump(mode="json")).encode())
    values: dict[str, str | int | float | bool] = {"config": str(config), "home": str(home), "cache": str(cache)}
    sites = experiment.federation.sites
    contexts = {
        i + 2: Context(1, i + 2, {"partition-id": i, "num-partitions": sites}, RecordDict(), values)
        for i in range(sites)
    }

    def answer(message: Message, context: Context) -> Message:
        site = open_tossed(context, seed, folder)
        return Message(HANDLERS[message.metadata.message_type](site, message.content), reply_to=message)

    rounds.run(LocalGrid(answer, contexts), Job.of(experiment, source_files(home, experiment), folder / "job"))
    whole = open_site(contexts[2]).load(experiment).data
    site = open_tossed(contexts[2], seed, folder)
    kept = kept_rounds(site)
    scored = score_site(site, divided(whole, seed)[1], kept)
    return Trial(seed, scored, spent_on(site, experiment, kept[0].job))


def pooled(trials: Sequence[Trial]) -> list[dict[str, Any]]:
    """The ROC of each score over all seeds, with the headline's curve, which is drawn.

    Each seed's scores are standardised first, which needs no labels.
    """
    out = []
    for parts in zip(*(trial.scored for trial in trials), strict=True):
        pairs = [standardise(part.members, part.others) for part in parts]
        members, others = (np.concatenate(side) for side in zip(*pairs, strict=True))
        entry = _entry(parts[0], roc(members, others), trials[0].spent)
        out.append(_rounded(entry) if parts[0].headline else _without_curve(entry))
    return out


def by_seed(trial: Trial) -> dict[str, Any]:
    """The figures of one seed, without curves."""
    entries = [_entry(part, roc(part.members, part.others), trial.spent) for part in trial.scored]
    return {
        "seed": trial.seed,
        "attacks": [_without_curve(entry) for entry in entries],
    }


def _without_curve(entry: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in entry.items() if key not in ("fpr", "tpr")}


def _rounded(entry: dict[str, Any]) -> dict[str, Any]:
    return entry | {key: [round(rate, 5) for rate in entry[key]] for key in ("fpr", "tpr")}


def _entry(scored: Scored, found: Any, spent: Epsilon | None) -> dict[str, Any]:
    about = {"kind": scored.kind, "score": scored.score, "view": scored.view, "headline": scored.headline}
    return about | plain_roc(found, spent if scored.kind == "TI" else None)


def study(home: Path, cache: Path, *, seeds: Sequence[int], quick: bool, command: str) -> dict[str, Any]:
    """Runs all arms and seeds; what comes back is the results file."""
    started, arms = time.monotonic(), []
    for name, privacy in ARMS.items():
        trials = []
        for seed in seeds:
            _say(f"{name}, seed {seed}")
            trials.append(run_trial(experiment_for(seed, privacy, quick=quick), home, cache))
        spent = trials[0].spent
        arms.append(
            {
                "arm": name,
                "epsilon": plain_spent(spent) if spent is not None else None,
                "pooled": pooled(trials),
                "seeds": [by_seed(trial) for trial in trials],
            }
        )
    return {
        "kind": "membership",
        "schema_version": 1,
        **environment(command),
        "seconds": round(time.monotonic() - started, 1),
        "quick": quick,
        "seeds": list(seeds),
        "attacked": ATTACKED,
        "game": "each image and pair of the attacked site is in the job by a fair coin",
        "experiment": experiment_for(seeds[0], None, quick=quick).model_dump(mode="json"),
        "privacy": PRIVACY,
        "arms": arms,
    }


def markdown(results: dict[str, Any]) -> str:
    """The table of a results file, over all seeds: an asterisk marks the headline."""
    lines = [
        "| kind | arm | score | updates | AUC | TPR at 1 % FPR | TPR at 10 % FPR | at most, by DP |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for kind in ("TR", "TI"):
        for arm in results["arms"]:
            lines += [_row(arm["arm"], one) for one in arm["pooled"] if one["kind"] == kind]
    epsilon = next(arm["epsilon"]["claim_text"] for arm in results["arms"] if arm["epsilon"])
    seeds = ", ".join(map(str, results["seeds"]))
    versions = ", ".join(f"{k} {v}" for k, v in results["packages"].items() if k != "socket-fl")
    return (
        "\n".join(lines)
        + f"\n\nWith DP: {epsilon}. 95 % intervals; seeds {seeds} pooled.\n"
        + f"`{results['command']}`; {results['cpus']} cores, {results['device']}; {versions}.\n"
    )


def _row(arm: str, one: dict[str, Any]) -> str:
    rates = [f"{100 * r['tpr']:.1f} ({100 * r['tpr_low']:.1f} to {100 * r['tpr_high']:.1f})" for r in one["at"]]
    allowed = [f"{100 * r['tpr_at_most']:.1f}" for r in one["at"] if "tpr_at_most" in r]
    area = f"{one['auc']:.3f} ({one['auc_low']:.3f} to {one['auc_high']:.3f})"
    score = f"{one['score'].replace('_', ' ')}{' *' if one['headline'] else ''}"
    cells = [one["kind"], arm, score, one["view"], area, *rates, " and ".join(allowed) or "nothing"]
    return f"| {' | '.join(cells)} |"


def picture(path: Path, results: dict[str, Any]) -> None:
    """The headline's ROC over all seeds, one panel for each kind."""
    panels = {
        title: [curve_of(one, arm["arm"]) for arm in results["arms"] for one in arm["pooled"] if _shown(one, kind)]
        for kind, title in TITLES.items()
    }
    (spent,) = (arm["epsilon"] for arm in results["arms"] if arm["epsilon"])
    draw(path, panels, {TITLES["TI"]: (spent["claim"], spent["delta"])})


def _shown(one: dict[str, Any], kind: str) -> bool:
    return bool(one["headline"] and one["kind"] == kind)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--out", type=Path, default=Path("docs/results/membership.json"))
    parser.add_argument("--figure", type=Path, default=Path("docs/img/membership.png"))
    parser.add_argument("--cache", type=Path, default=Path(".cache/images"), help="rendered scenes")
    parser.add_argument("--seeds", type=lambda text: tuple(int(w) for w in text.split(",")), default=SEEDS)
    parser.add_argument(
        "--quick", action="store_true", help="tiny sizes, to see that it runs; the figures mean nothing"
    )
    args = parser.parse_args(arguments)
    given = sys.argv[1:] if arguments is None else arguments
    command = shlex.join(["python", "scripts/membership_study.py", *given])
    try:
        with TemporaryDirectory(prefix="socket-fl-") as home:
            results = study(Path(home), args.cache.resolve(), seeds=args.seeds, quick=args.quick, command=command)
    except SocketError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    write_atomically(args.out, (json.dumps(results, indent=1) + "\n").encode())
    picture(args.figure, results)
    print(markdown(results))
    return 0


if __name__ == "__main__":
    sys.exit(main())
