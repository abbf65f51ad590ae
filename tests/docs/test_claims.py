"""What sentences of README and docs conclude from results follows from the committed results files.

A sentence that is changed, or results that no longer bear it out, fail here: then one of the two has to change.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from statistics import mean, stdev

import pytest

from server.differences import between
from server.results import Mode, Row, read_results
from tests.docs.markdown import PAGES, ROOT

Rows = list[Row]


def of(rows: Rows, label: str, mode: Mode) -> list[float]:
    """Accuracies by seed, in percent."""
    found = sorted((row.seed, 100 * row.accuracy) for row in rows if (row.label, row.mode) == (label, mode))
    assert found, (label, mode)
    return [accuracy for _, accuracy in found]


def falls(rows: Rows, *points: tuple[str, Mode]) -> bool:
    """Whether the mean of each is below that of the one before."""
    means = [mean(of(rows, *point)) for point in points]
    return all(one > other for one, other in zip(means, means[1:], strict=False))


def noise(rows: Rows, above: tuple[str, Mode], below: tuple[str, Mode]) -> bool:
    found = between(rows, above, below)
    assert found is not None
    return found.within_noise


def order(rows: Rows) -> bool:
    names = ("tgkt", "socket", "shot", "adabn")
    return falls(rows, *((name, "centralised") for name in names), ("unadapted", "unadapted"))


def federating_keeps_part(rows: Rows) -> bool:
    modes: tuple[Mode, ...] = ("centralised", "federated", "local")
    return all(falls(rows, *((name, mode) for mode in modes)) for name in ("socket", "tgkt"))


def seeds_of_drift(rows: Rows, option: str) -> list[float]:
    """Gain of an option over the plain method on each split and seed."""
    return [
        with_it - without
        for split in ("0.1", "0.5", "iid")
        for with_it, without in zip(
            of(rows, f"{split}-{option}", "federated"), of(rows, f"{split}-plain", "federated"), strict=True
        )
    ]


def gains(rows: Rows, epsilon: int) -> list[float]:
    """Of DP on pairs over no pairs at all, by seed."""
    both = (of(rows, f"socket-epsilon-{epsilon}", "centralised"), of(rows, "socket-no-pairs", "centralised"))
    return [one - other for one, other in zip(*both, strict=True)]


def kept_of_the_lead(rows: Rows) -> float:
    shot, full = mean(of(rows, "shot", "centralised")), mean(of(rows, "socket-not-private", "centralised"))
    return (mean(of(rows, "socket-epsilon-3", "centralised")) - shot) / (full - shot)


def spread_is_nearly_the_gain(rows: Rows) -> bool:
    found = gains(rows, 8)
    return 0.75 * mean(found) < stdev(found) < mean(found)


BOTH: tuple[Mode, ...] = ("federated", "centralised")

CLAIMS: list[tuple[str, str, str, Callable[[Rows], bool]]] = [
    ("README.md", "demo", "TGMB + TGKT (`tgkt`), SOCKET, SHOT, AdaBN, unadapted.", order),
    (
        "README.md",
        "demo",
        "TGMB + TGKT's lead over SOCKET is within noise, SHOT's over AdaBN is not.",
        lambda rows: (
            noise(rows, ("tgkt", "centralised"), ("socket", "centralised"))
            and not noise(rows, ("shot", "centralised"), ("adabn", "centralised"))
        ),
    ),
    (
        "README.md",
        "demo",
        "Federated, `tgkt` is **not** above SOCKET",
        lambda rows: falls(rows, ("socket", "federated"), ("tgkt", "federated")),
    ),
    (
        "README.md",
        "demo",
        "With SOCKET and TGMB + TGKT, federating keeps part of what centralising gains, each site alone less",
        federating_keeps_part,
    ),
    (
        "README.md",
        "demo",
        "With SHOT it keeps nothing.",
        lambda rows: falls(rows, ("shot", "local"), ("shot", "federated")),
    ),
    (
        "README.md",
        "demo",
        "what federating SOCKET loses is within noise",
        lambda rows: noise(rows, ("socket", "centralised"), ("socket", "federated")),
    ),
    (
        "README.md",
        "demo",
        "what it gains over each site alone is not.",
        lambda rows: not noise(rows, ("socket", "federated"), ("socket", "local")),
    ),
    (
        "README.md",
        "demo",
        "SHOT falls below AdaBN where sites see skewed classes",
        lambda rows: falls(rows, ("adabn", "federated"), ("shot", "federated")),
    ),
    (
        "docs/measurements.md",
        "drift",
        "FedProx gains on every split and seed",
        lambda rows: min(seeds_of_drift(rows, "proximal")) > 0,
    ),
    (
        "docs/measurements.md",
        "drift",
        "the other two lose on most.",
        lambda rows: all(
            sum(gain < 0 for gain in seeds_of_drift(rows, option)) > 9 / 2 for option in ("alignment", "prior")
        ),
    ),
    (
        "docs/measurements.md",
        "wire",
        "No type loses beyond noise on this job.",
        lambda rows: all(
            noise(rows, (label, "federated"), ("float32", "federated"))
            or falls(rows, (label, "federated"), ("float32", "federated"))
            for label in ("float16-both", "int8-up", "int8-both")
        ),
    ),
    (
        "docs/measurements.md",
        "precision",
        "Both are within noise. Federated, all three seeds lose a little",
        lambda rows: (
            all(noise(rows, ("bfloat16", mode), ("float32", mode)) for mode in BOTH)
            and all(
                one < other
                for one, other in zip(of(rows, "bfloat16", "federated"), of(rows, "float32", "federated"), strict=True)
            )
        ),
    ),
    (
        "docs/privacy.md",
        "privacy",
        "a few points at epsilon 1 and 3 (with every seed)",
        lambda rows: all(gain > 0 for epsilon in (1, 3) for gain in gains(rows, epsilon)),
    ),
    (
        "docs/privacy.md",
        "privacy",
        "more at 8, with a spread nearly as large as the gain.",
        lambda rows: (
            mean(gains(rows, 8)) > max(mean(gains(rows, 1)), mean(gains(rows, 3))) and spread_is_nearly_the_gain(rows)
        ),
    ),
    (
        "docs/privacy.md",
        "privacy",
        "SOCKET's lead over SHOT without DP is kept to less than a fifth at epsilon 3",
        lambda rows: 0 < kept_of_the_lead(rows) < 0.2,
    ),
    (
        "docs/privacy.md",
        "privacy-sites",
        "With so few pairs a site, DP on them is worth less than leaving them out.",
        lambda rows: all(
            falls(rows, ("socket-no-pairs", "federated"), (f"socket-epsilon-{epsilon}", "federated"))
            for epsilon in (1, 3, 8)
        ),
    ),
]


@pytest.mark.parametrize(
    ("page", "results", "sentence", "holds"), CLAIMS, ids=[sentence for _, _, sentence, _ in CLAIMS]
)
def test_a_sentence_follows_from_the_results(
    page: str, results: str, sentence: str, holds: Callable[[Rows], bool]
) -> None:
    text = re.sub(r"\s+", " ", (ROOT / page).read_text(encoding="utf-8"))
    assert sentence in text
    assert holds(read_results(ROOT / "docs" / "results" / f"{results}.json")[0])


def test_results_that_say_otherwise_are_noticed() -> None:
    rows = read_results(ROOT / "docs" / "results" / "demo.json")[0]
    assert not falls(rows, ("adabn", "centralised"), ("shot", "centralised"))
    assert noise(rows, ("tgkt", "centralised"), ("socket", "centralised"))
    assert not noise(rows, ("shot", "centralised"), ("adabn", "centralised"))


def test_each_results_file_stands_in_a_page() -> None:
    shown = {
        found for page in PAGES for found in re.findall(r"<!-- table: (\S+) -->", page.read_text(encoding="utf-8"))
    }
    files = {str(path.relative_to(ROOT)) for path in (ROOT / "docs" / "results").glob("*.json")}
    assert shown == files
