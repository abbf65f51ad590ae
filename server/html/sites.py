"""What each site reached, and which classes it holds: known in simulation alone."""

from __future__ import annotations

from collections.abc import Sequence

from server.by_site import AtSite
from server.html.classes import heat_step
from server.html.curves import MEANINGS, of
from server.html.markup import Content, Markup, element, figure, table
from server.html.svg import Frame, across, legend, line, mark, picture, shortened, text
from server.report import MODE_NAMES
from server.results import Mode, Row, mean_and_spread

DRAWN = 24
"""Up to so many sites are drawn, the first ones by name; tables have all."""
BARS: tuple[Mode, ...] = ("local", "federated")
LINE = 24.0
"""Height of a site in a picture."""
STRIP = (58.0, 130.0)
"""Where the classes of a site are."""


def by_site(rows: Sequence[Row], classes: Sequence[str]) -> list[Markup] | None:
    """A figure for each seed, all but the first folded away; None if no row tells its sites.

    Sites of one name hold other images with each seed: they are never averaged over seeds.
    """
    seeds = sorted({r.seed for r in rows if r.by_site})
    if not seeds:
        return None
    first, *others = [_of_seed(rows, [r for r in rows if r.seed == s and r.by_site], classes, s) for s in seeds]
    if not others:
        return [first]
    name = f"The same with seed{'s' * (len(others) > 1)} {', '.join(map(str, seeds[1:]))}"
    return [first, element("details", element("summary", name), others)]


def _of_seed(rows: Sequence[Row], told: Sequence[Row], classes: Sequence[str], seed: int) -> Markup:
    labels = list(dict.fromkeys(r.label for r in told))
    known = [r for r in rows if r.seed == seed]
    darkest = max((_share(a, k) for r in told for a in r.by_site for k in range(len(classes))), default=0.0) or 1.0
    pictures = [_panel(known, label, f"sites-{seed}-{i}", classes, darkest) for i, label in enumerate(labels)]
    most = max(len(r.by_site) for r in told)
    cut = f" The first {DRAWN} of {most} sites by name; the tables have all." if most > DRAWN else ""
    caption = (
        f"Seed {seed}: accuracy of each site's model on the common held-out set, adapted alone and federated. Left: "
        f"the site's images by class, cells stand out by their share, up to {darkest:.0%}; {_listed(classes)}.{cut} "
        "Classes of a site's images are known because sites are simulated; adaptation never sees them."
    )
    there = {r.mode for r in known if r.label in labels} | {r.mode for r in known if r.mode == "unadapted"}
    kinds = [(str(mode), words) for mode, words in MEANINGS.items() if mode in there]
    data = [_accuracies(told, seed), _images(told, seed, classes), _predicted(told, seed, classes)]
    return figure(f"sites-{seed}", caption, pictures, data, legend(kinds))


def _listed(classes: Sequence[str]) -> str:
    if len(classes) > 12:
        return f"{len(classes)} classes, in the order of the tables"
    return "from the left " + ", ".join(classes)


def _panel(known: Sequence[Row], label: str, id_: str, classes: Sequence[str], darkest: float) -> Markup:
    places = {mode: {a.site: a for r in of(known, label, mode) for a in r.by_site} for mode in BARS}
    sites = sorted({site for found in places.values() for site in found})
    shown = sites[:DRAWN]
    frame = Frame(STRIP[1] + 10, 28, 306, 28 + LINE * len(shown))
    marks: list[Markup] = []
    for i, site in enumerate(shown):
        top = frame.top + LINE * i
        marks.append(text(4, top + LINE / 2 + 4, shortened(site, 8)))
        marks += _strip(next(found[site] for found in places.values() if site in found), top + 4, classes, darkest)
        here = [(mode, places[mode][site]) for mode in BARS if site in places[mode]]
        height = (LINE - 6) / len(here)
        for j, (mode, place) in enumerate(here):
            y = top + 3 + height * j
            end = frame.x(100 * place.accuracy)
            marks.append(
                element("rect", x=frame.left, y=y, width=end - frame.left, height=height - 1, class_=f"bar {mode}")
            )
            marks.append(mark(mode, end, y + (height - 1) / 2, 3.2))
    levels: list[Markup] = []
    for level in (of(known, label, "centralised"), [r for r in known if r.mode == "unadapted"]):
        if level:
            x = frame.x(100 * mean_and_spread([r.accuracy for r in level])[0])
            levels.append(line(x, frame.top, x, frame.bottom, f"line {level[0].mode}"))
    axis = across(frame, [(frame.x(v), str(v)) for v in (0, 50, 100)], "held-out accuracy, %", grid=True)
    words = "; ".join(
        f"{site}: "
        + ", ".join(
            f"{MODE_NAMES[mode]} {100 * found[site].accuracy:.1f} %" for mode, found in places.items() if site in found
        )
        for site in shown
    )
    under = text((STRIP[0] + STRIP[1]) / 2, frame.bottom + 15, "classes", anchor="middle")
    title = text(8, 14, shortened(label, 40), class_="name")
    return picture(id_, f"{label}: accuracy by site", words, frame.bottom + 38, title, axis, marks, levels, under)


def _share(place: AtSite, k: int) -> float:
    return place.images[k] / (sum(place.images) or 1)


def _strip(place: AtSite, top: float, classes: Sequence[str], darkest: float) -> list[Markup]:
    """The site's classes as cells, with their names for whoever points at them."""
    width, total = (STRIP[1] - STRIP[0]) / len(classes), sum(place.images)
    return [
        element(
            "rect",
            element("title", f"{name}: {place.images[k]} of {total}"),
            x=STRIP[0] + width * k,
            y=top,
            width=width,
            height=LINE - 8,
            class_=f"heat heat-{heat_step(_share(place, k) / darkest)}",
        )
        for k, name in enumerate(classes)
    ]


def _accuracies(told: Sequence[Row], seed: int) -> Markup:
    lines: list[tuple[Content, ...]] = []
    for label in dict.fromkeys(r.label for r in told):
        places = {mode: {a.site: a for r in of(told, label, mode) for a in r.by_site} for mode in BARS}
        for site in sorted({site for found in places.values() for site in found}):
            alone, federated = (places[mode].get(site) for mode in BARS)
            lines.append(
                (
                    f"{label}, {site}",
                    str(sum(next(a for a in (alone, federated) if a is not None).images)),
                    *(_percent(a.accuracy if a is not None else None) for a in (alone, federated)),
                    *(_percent(a.transductive if a is not None else None) for a in (alone, federated)),
                )
            )
    return table(
        f"sites-{seed}-data",
        f"Seed {seed}: accuracy by site, %, held out and on the site's own images that it adapted to",
        ("row, site", "images", "held out, alone", "held out, federated", "own, alone", "own, federated"),
        lines,
    )


def _images(told: Sequence[Row], seed: int, classes: Sequence[str]) -> Markup:
    """Rows that share their sites' images are one line."""
    kinds: dict[tuple[str, tuple[int, ...]], list[str]] = {}
    for r in told:
        for a in r.by_site:
            kinds.setdefault((a.site, a.images), []).append(r.label)
    everywhere = set(dict.fromkeys(r.label for r in told))
    return table(
        f"sites-{seed}-images",
        f"Seed {seed}: task-relevant images of each site by true class",
        ("site", *classes),
        [
            (site if set(labels) == everywhere else f"{site}, {', '.join(dict.fromkeys(labels))}", *map(str, images))
            for (site, images), labels in sorted(kinds.items())
        ],
    )


def _predicted(told: Sequence[Row], seed: int, classes: Sequence[str]) -> Markup:
    return table(
        f"sites-{seed}-predicted",
        f"Seed {seed}: held-out images by the class that each site's model predicts",
        ("row, site", *classes),
        [(f"{r.label}, {MODE_NAMES[r.mode]}, {a.site}", *map(str, a.predicted)) for r in told for a in r.by_site],
    )


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f}"
