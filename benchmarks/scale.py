"""How a site's time grows with steps, image size and TI pairs: curves and their slopes, the tiny network."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from benchmarks.harness import Round, Run, exponent, interleaved, line, seconds
from benchmarks.record import Figure, Part, figure
from benchmarks.subjects import TINY, Subject, experiment, networks, site_data
from socket_core.engine import Segment, adapt


def adaptation(*, epochs: int = 1, size: int = 48, ti: int = 128, tr: int = 128) -> Callable[[], object]:
    """``engine.adapt`` at one site, from the release on."""
    subject = Subject("tiny", size, bottleneck=TINY.bottleneck)
    asked, data = experiment(subject), site_data(tr, ti, size)
    segment = Segment("site", 1, epochs * tr // subject.batch, 1, fresh=True)
    return lambda: adapt(*networks(subject), data, asked, segment)


CURVES: dict[str, tuple[str, tuple[int, ...]]] = {
    "epochs": ("epochs", (1, 2, 4, 8)),
    "size": ("pixels a side", (32, 48, 64, 96)),
    "ti": ("TI pairs", (64, 128, 256, 512, 1024)),
}


def figures_of(key: str, word: str, points: tuple[int, ...], taken: list[Round]) -> list[Figure]:
    """The curve, its line and its power."""
    curve = [figure(f"{point} {word}", seconds(taken, str(point)), "s") for point in points]
    middle = [seconds(taken, str(point)).median for point in points]
    fit = line(points, middle)
    slopes = [
        Figure(f"{word}: each further one", 1e3 * fit.slope, "ms"),
        Figure(f"{word}: power", exponent(points, middle), "exponent"),
    ]
    return curve + slopes[1 if key == "size" else 0 :]


def measure(run: Run) -> Part:
    """Each curve by itself, its points interleaved."""
    rounds, figures = run.rounds(5, quick=1), []
    for key, (word, points) in CURVES.items():
        if run.quick:
            points = points[:2]
        arms: Mapping[str, Callable[[], object]] = {str(p): adaptation(**{key: p}) for p in points}
        taken = interleaved(arms, rounds, tell=run.telling_of(word))
        figures += figures_of(key, word, points, taken)
    return Part({"TR images": 128, "otherwise": "1 epoch, 48 px, 128 pairs", "rounds": rounds}, figures)
