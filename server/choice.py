"""Which round a federation ends with, and when it need not go on: by a label-free score, never by a label.

Sites score the global model on their own unlabelled images; the mean over sites counts. Without a validator the last
round is the result.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def best_round(records: Sequence[dict[str, Any]]) -> int | None:
    """The first round with the highest mean score; None if no round has one.

    Args:
        records: Of ``rounds.jsonl``; a scored one has ``validation: {"mean": ...}``.
    """
    scored = [(r["validation"]["mean"], r["round"]) for r in records if r.get("validation")]
    return max(scored, key=lambda pair: (pair[0], -pair[1]))[1] if scored else None


def is_over(records: Sequence[dict[str, Any]], patience: int) -> bool:
    """Whether ``patience`` rounds in a row, more than 0, brought no better score."""
    best = best_round(records)
    return patience > 0 and best is not None and records[-1]["round"] - best >= patience


def mean_score(by_site: dict[str, float]) -> dict[str, Any]:
    """The ``validation`` entry of a record: empty if no site has sent a score."""
    if not by_site:
        return {}
    return {"mean": sum(by_site[site] for site in sorted(by_site)) / len(by_site), "by_site": by_site}
