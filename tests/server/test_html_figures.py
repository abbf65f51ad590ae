"""Pictures: values at their places, readable colours, classes counted over seeds."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.html import classes, curves, scatter
from server.html.markup import element
from server.html.palette import DARK, LIGHT, READ, contrast
from server.html.svg import Frame, round_ticks, spread_out
from tests.server.html_reader import read
from tests.server.rows import row

UNIT = "record-level: one pair; add or remove one pair; delta 1e-05"


def test_contrast_is_that_of_the_standard() -> None:
    assert contrast("#ffffff", "#000000") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)
    assert contrast("#123456", "#123456") == 1


@pytest.mark.parametrize("palette", [LIGHT, DARK])
def test_all_that_is_read_has_contrast(palette: dict[str, str]) -> None:
    assert set(LIGHT) == set(DARK)
    assert min(contrast(palette[ink], palette[ground]) for ink, ground in READ) >= 4.5


def test_text_is_escaped_and_markup_is_not() -> None:
    assert element("p", "a<b & 'c'", element("b", "x"), class_='"') == (
        '<p class="&quot;">a&lt;b &amp; &#x27;c&#x27;<b>x</b></p>\n'
    )
    assert element("div", None, hidden=True, id=None, width=1.50) == '<div hidden width="1.5"></div>\n'


def test_a_frame_puts_values_where_they_belong() -> None:
    frame = Frame(10, 20, 110, 220, x_end=5)
    assert (frame.x(0), frame.x(5), frame.x(2.5)) == (10, 110, 60)
    assert (frame.y(0), frame.y(100), frame.y(25)) == (220, 20, 170)
    assert Frame(10, 20, 110, 220, x_end=0).x(0) == 10


@given(st.floats(1e-3, 1e6))
def test_ticks_are_round_few_and_within(end: float) -> None:
    ticks = round_ticks(end)
    assert 2 <= len(ticks) <= 6
    assert ticks[0] == 0
    assert ticks[-1] <= end * (1 + 1e-6)


@given(st.lists(st.floats(0, 100), min_size=1, max_size=10))
def test_labels_keep_their_order_and_distance(wanted: list[float]) -> None:
    placed = spread_out(wanted, 10, 0, 100)
    order = sorted(range(len(wanted)), key=lambda i: wanted[i])
    gaps = [placed[b] - placed[a] for a, b in zip(order, order[1:], strict=False)]
    assert all(gap >= 10 - 1e-9 for gap in gaps)
    assert min(placed) >= -1e-9
    assert max(placed) <= 100 + 1e-9


def test_a_curve_is_drawn_at_its_means() -> None:
    rows = [replace(row("socket", seed=s), curve=c) for s, c in enumerate(((0.0, 0.5, 1.0), (0.5, 0.5, 0.0)))]
    drawn = read(str(curves.rounds(rows)))
    (line,) = (n for n in drawn.all("polyline") if n.attributes["class"] == "line federated")
    assert line.attributes["points"] == "34.0,142.5 182.0,105.0 330.0,105.0"  # 25, 50 and 50 of 100
    assert drawn.by_id("rounds-data").cells() == [["socket, federated", "25.0", "50.0", "50.0"]]


def test_modes_differ_in_shape_and_dashes_not_in_colour_alone() -> None:
    rows = [row("socket", mode) for mode in ("local", "federated", "centralised")]
    drawn = read(str(curves.rounds(rows)))
    shapes = {n.attributes["class"]: n.tag for n in drawn.all("circle", "polygon", "path")}
    assert shapes["mark federated"] == "circle"
    corners = {
        n.attributes["class"]: len(n.attributes["points"].split())
        for n in drawn.all("polygon")
        if n.attributes["class"].startswith("mark")
    }
    assert corners == {"mark local": 3, "mark centralised": 4}


def test_bytes_are_those_of_federated_rows() -> None:
    rows = [
        row("socket", seed=0, bytes_up=1_000_000, rounds=2),
        row("socket", seed=1, bytes_up=3_000_000, rounds=2),
        row("socket", "centralised"),
        row("shot"),
    ]
    drawn = read(str(scatter.sent_up(rows)))
    assert drawn.by_id("bytes-data").cells() == [["socket", "2.00", "1.00", "50.0 ± 0.0"]]
    assert scatter.sent_up(rows[2:]) is None


def test_without_epsilon_is_at_the_right_end_and_units_are_in_pictures_of_their_own() -> None:
    rows = [
        row("socket", epsilon=1.0, epsilon_unit=UNIT, label="one"),
        row("socket", epsilon=8.0, epsilon_unit=UNIT, label="eight"),
        row("socket", site_epsilon=5.0, site_epsilon_unit="whole site; delta 1e-05", label="site"),
        row("shot"),
        row("socket", "centralised"),
    ]
    drawn = read(str(scatter.against_epsilon(rows)))
    assert drawn.by_id("epsilon-0-data").cells() == [
        ["one", "1.00", "50.0"],
        ["eight", "8.00", "50.0"],
        ["shot", "none", "50.0"],
    ]
    assert drawn.by_id("epsilon-1-data").cells() == [["site", "5.00", "50.0"], ["shot", "none", "50.0"]]
    marks = [float(n.attributes["cx"]) for n in drawn.by_id("epsilon-0-picture").all("circle")]
    assert marks[0] < marks[1] < marks[2]
    assert UNIT in drawn.text()
    assert scatter.against_epsilon(rows[3:]) is None


def test_confusion_and_accuracy_by_class_are_summed_over_seeds() -> None:
    one = replace(row("socket", seed=0), confusion=((3, 1, 0), (0, 4, 0), (0, 0, 0)))
    two = replace(row("socket", seed=1), confusion=((1, 3, 0), (0, 4, 0), (0, 0, 0)))
    assert classes.summed([one, two]) == [[4, 4, 0], [0, 8, 0], [0, 0, 0]]
    assert classes.recall(classes.summed([one, two])) == [50, 100, None]
    names = classes.names([one], ["a", "b", "c"])
    assert classes.names([one], ["a"]) == ["class 0", "class 1", "class 2"]
    drawn = read(str(classes.by_class([one, two], names)))
    assert drawn.by_id("class-data").cells() == [["socket, federated", "50.0", "100.0", "-"]]
    drawn = read(str(classes.confusions([one, two], names)))
    assert drawn.by_id("confusion-0-data").cells() == [["a", "4", "4", "0"], ["b", "0", "8", "0"], ["c", "0", "0", "0"]]
    assert [n.text() for n in drawn.all("text") if "heat-ink" in n.attributes["class"]] == ["50", "50", "100"]


def test_forty_classes_fit_into_a_box_of_their_own() -> None:
    many = replace(row("socket"), confusion=tuple(tuple(int(i == j) for j in range(40)) for i in range(40)))
    (svg,) = read(str(classes.confusions([many], [f"class {i}" for i in range(40)]))).all("svg")
    assert svg.attributes["style"].endswith("min-width:668px")
