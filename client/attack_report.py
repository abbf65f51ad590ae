"""What a membership attack found, as plain values and in words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from client.attack import Others, Scored, kept_rounds, score_site
from client.images import load_pairs, load_tr
from client.site import Site, open_deployed
from client.site_file import read_site_file
from socket_core.config import Experiment
from socket_core.errors import ConfigError, PrivacyError
from socket_core.methods import needs_pairs
from socket_core.privacy.accounting import ADJACENCY, UNIT, Epsilon, epsilon
from socket_core.privacy.ledger import Ledger
from socket_core.privacy.membership import Operating, Roc, most_tpr, roc
from socket_core.privacy.plan import privacy_of


def attack_deployed(
    site_file: Path,
    *,
    others_tr: Path | None = None,
    others_ti_rgb: Path | None = None,
    others_ti_target: Path | None = None,
    job: str = "",
) -> dict[str, Any]:
    """Attacks what a deployed site sent in one job, with folders of images that the job has not used.

    Args:
        site_file: ``site.yaml``.
        others_tr: Task-relevant images of the same distribution as the site's, not used.
        others_ti_rgb: RGB halves of pairs, likewise.
        others_ti_target: Their target halves, named alike.
        job: Name of the job; by default the latest of which something was kept.

    Returns:
        What :func:`attack_site` returns.

    Raises:
        ConfigError: If there are no folders, or one half of the pairs alone.
        DataError: As :func:`attack_site`, and if the folders cannot be read.
    """
    if (others_ti_rgb is None) != (others_ti_target is None) or (others_tr is None and others_ti_rgb is None):
        raise ConfigError(
            "expected unused task-relevant images, or both halves of unused pairs, or all three",
            where="socket-site audit",
            remedy="give --others-tr, or --others-ti-rgb and --others-ti-target",
        )
    site, file = open_deployed(site_file), read_site_file(site_file)
    experiment = kept_rounds(site, job)[0].experiment
    tr = load_tr(file.model_copy(update={"tr": others_tr}), experiment) if others_tr is not None else None
    halves = file.model_copy(update={"ti_rgb": others_ti_rgb, "ti_target": others_ti_target})
    ti = load_pairs(halves, experiment)[0] if others_ti_rgb is not None else None
    return attack_site(site, Others(tr, ti), job=job)


def attack_site(site: Site, others: Others, *, job: str = "") -> dict[str, Any]:
    """What the updates of one job tell about the site's TR images and TI pairs, as plain values.

    Args:
        site: With ``keep_sent`` on while the job ran.
        others: Images that are no members.
        job: Name of the job; by default the latest of which something was kept.

    Returns:
        Site, job, method, numbers of rounds; ``epsilon`` of the job for TI pairs, or None; one entry in ``attacks``
        for each kind, score and view, with area, intervals, rates and curve; ``left_out`` says what was not attacked.

    Raises:
        DataError: If nothing was kept, or some of the others are members.
        MethodError: If the method sends no change of the network.
        PrivacyError: If the job ran under DP and its ledger cannot be read.
    """
    rounds = kept_rounds(site, job)
    name, experiment = rounds[0].job, rounds[0].experiment
    spent = spent_on(site, experiment, name)
    return {
        "site": site.name,
        "job": name,
        "method": experiment.method.name,
        "updates": len(rounds),
        "rounds": [r.round for r in rounds],
        "epsilon": plain_spent(spent) if spent is not None else None,
        "attacks": [_found(scored, spent) for scored in score_site(site, others, rounds)],
        "left_out": _left_out(others, experiment),
    }


def _left_out(others: Others, experiment: Experiment) -> list[str]:
    method = experiment.method.name
    out = [] if others.tr is not None else ["task-relevant images: not attacked, no unused ones were given."]
    if not needs_pairs(experiment.method):
        return [*out, f"task-irrelevant pairs: not attacked, {method} does not look at them."]
    return out if others.ti is not None else [*out, "task-irrelevant pairs: not attacked, no unused ones were given."]


def lines(found: dict[str, Any]) -> list[str]:
    """What :func:`attack_site` found, as a table with words."""
    out = [
        f"site {found['site']}, job {found['job']} ({found['method']}): {found['updates']} updates attacked, with the "
        "source's BatchNorm",
        "95 % intervals, each for itself. AUC 0.5 is guessing, 1 is certainty. * the headline, fixed in advance",
        f"{'':2}{'kind':5}{'score':13}{'updates':9}{'AUC':22}{'TPR at FPR <= 1 %':26}TPR at FPR <= 10 %",
    ]
    for one in found["attacks"]:
        area = f"{one['auc']:.3f} [{one['auc_low']:.3f}, {one['auc_high']:.3f}]"
        rates = [f"{100 * r['tpr']:.1f} % [{100 * r['tpr_low']:.1f}, {100 * r['tpr_high']:.1f}]" for r in one["at"]]
        mark = "*" if one["headline"] else ""
        out.append(f"{mark:2}{one['kind']:5}{one['score']:13}{one['view']:9}{area:22}{rates[0]:26}{rates[1]}")
    verdicts = (sentence for one in found["attacks"] if one["headline"] for sentence in _verdict(one, found))
    return [*out, "", *verdicts, *found["left_out"]]


def _verdict(one: dict[str, Any], found: dict[str, Any]) -> list[str]:
    kind = "task-relevant images" if one["kind"] == "TR" else "task-irrelevant pairs"
    who = f"{kind}, {one['members']} members and {one['others']} others"
    if one["auc_low"] > 0.5:
        out = [f"{who}: whoever saw these updates tells members from others better than by guessing."]
    else:
        out = [f"{who}: this attack does not tell them apart. A better attack, or more images, may."]
    (control,) = (c for c in found["attacks"] if (c["kind"], c["view"]) == (one["kind"], "none"))
    if not control["auc_low"] <= 0.5 <= control["auc_high"]:
        out.append(
            f"{kind}: CAUTION: the source alone, which knows nothing of the job, tells them apart (AUC "
            f"{control['auc']:.3f}). The others are not like the members, and the figures above measure that too."
        )
    if one["kind"] == "TR":
        return [*out, f"{kind}: they have no differential privacy. Nothing bounds what a better attack would find."]
    if (spent := found["epsilon"]) is None:
        return [*out, f"{kind}: this job trained on them without differential privacy. Nothing bounds a better attack."]
    rates = "; ".join(
        f"at FPR {100 * r['fpr']:.1f} % at most {100 * r['tpr_at_most']:.1f} %, found {100 * r['tpr']:.1f} %"
        for r in one["at"]
    )
    out.append(
        f"{kind}: {spent['claim_text']}. No attack whatever may find more than TPR <= e^epsilon FPR + delta allows:"
    )
    out.append(f"{rates}.")
    if any(r["breaks_bound"] for a in found["attacks"] if a["kind"] == "TI" and a["view"] != "none" for r in a["at"]):
        out.append(
            "ABOVE THE BOUND by more than chance explains: the others are unlike the members, or the noise is at fault."
            " Repeat it with others that were drawn from the site's folders before a job; if it stays, report it."
        )
    return out


def spent_on(site: Site, experiment: Experiment, job: str) -> Epsilon | None:
    """What the job has charged for its TI pairs, which bounds every attack on its updates; None without DP."""
    if experiment.privacy is None or not needs_pairs(experiment.method):
        return None
    charges = [c for c in Ledger(site.ledger_file, create=False).charges() if c.job == job]
    if not charges:
        raise PrivacyError(
            "the ledger knows nothing of this job, which asked for DP",
            where=job,
            remedy="put the ledger back that was there when the job ran",
        )
    return epsilon([c.event for c in charges], privacy_of(experiment).delta)


def _found(scored: Scored, spent: Epsilon | None) -> dict[str, Any]:
    found = roc(scored.members, scored.others)
    bound = spent if scored.kind == "TI" else None
    return {
        "kind": scored.kind,
        "score": scored.score,
        "view": scored.view,
        "headline": scored.headline,
        **plain_roc(found, bound),
    }


def plain_roc(found: Roc, bound: Epsilon | None) -> dict[str, Any]:
    """A ROC as plain values; with DP each rate has beside it the largest that any attack may reach."""
    return {
        "members": found.members,
        "others": found.others,
        "auc": found.auc,
        "auc_low": found.auc_low,
        "auc_high": found.auc_high,
        "at": [_plain_rate(one, bound) for one in found.at],
        "fpr": found.fpr.tolist(),
        "tpr": found.tpr.tolist(),
    }


def _plain_rate(one: Operating, bound: Epsilon | None) -> dict[str, Any]:
    out: dict[str, Any] = {"level": one.level}
    for name, rate in (("fpr", one.fpr), ("tpr", one.tpr)):
        out |= {name: rate.value, f"{name}_low": rate.low, f"{name}_high": rate.high}
    if bound is not None:
        out["tpr_at_most"] = most_tpr(one.fpr.value, bound.claim, bound.delta)
        out["breaks_bound"] = one.breaks(bound.claim, bound.delta)
    return out


def plain_spent(spent: Epsilon) -> dict[str, Any]:
    """Epsilon as plain values, never without delta, unit and adjacency."""
    return {
        "claim": spent.claim,
        "by": spent.by,
        "delta": spent.delta,
        "unit": UNIT,
        "adjacency": ADJACENCY,
        "claim_text": str(spent),
    }
