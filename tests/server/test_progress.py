"""One line for the whole of a job: counts, the time left, and silence where it is asked for."""

from __future__ import annotations

import io
import time

import pytest
from rich.console import Console

from server import progress
from server.progress import Display
from server.tally import Part, Tally, duration


class Clock:
    """Stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_the_time_left_is_what_the_work_done_here_took_for_what_is_open() -> None:
    clock = Clock()
    tally = Tally({"source": Part(10, result=False), "kept": Part(500), "a": Part(30), "b": Part(60)}, clock)
    clock.now = 1000.0  # images
    tally.keep("kept")
    tally.begin()
    assert tally.left() is None
    clock.now += 10
    tally.report("source", 1, 1)
    assert tally.left() == pytest.approx(90)  # ten seconds for ten, and ninety are open
    clock.now += 20
    assert tally.left() == pytest.approx(70)  # it runs down between two reports
    tally.report("a", 1, 2)
    assert tally.left() == pytest.approx(30 / 25 * 75)
    assert tally.results == (1, 3)
    assert tally.share == pytest.approx((10 + 500 + 15) / 600)
    clock.now += 500
    assert tally.left() == 0


def test_little_work_tells_nothing_of_the_speed() -> None:
    clock = Clock()
    tally = Tally({"a": Part(4), "b": Part(96)}, clock)
    clock.now = 60.0
    tally.report("a", 1, 1)
    assert tally.left() is None


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(1, "5 s"), (42, "40 s"), (90, "2 min"), (3540, "59 min"), (3600, "1 h 00 min"), (11100, "3 h 05 min")],
)
def test_a_guess_is_said_no_more_exactly_than_it_is_known(seconds: float, expected: str) -> None:
    assert duration(seconds) == expected


def shown(display: Display, monkeypatch: pytest.MonkeyPatch, *, terminal: bool) -> io.StringIO:
    out = io.StringIO()
    display.console = Console(file=out, quiet=display.console.quiet, force_terminal=terminal, width=100)
    return out


def work(display: Display) -> None:
    with display.whole({"a": Part(1), "b": Part(1)}) as whole:
        with display.task("images") as report:
            report(3, 4)
        whole.begin()
        whole.keep("a")
        whole.report("b")


def test_without_a_terminal_sentences_come_with_a_pause_between(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, display = Clock(), Display()
    monkeypatch.setattr(time, "monotonic", clock)
    out = shown(display, monkeypatch, terminal=False)
    work(display)
    assert out.getvalue() == ""
    with display.whole({"a": Part(1), "b": Part(1)}) as whole:
        clock.now += progress.SAY_AFTER
        whole.now("images 1 of 2")
        whole.now("images 2 of 2")
        clock.now += progress.SAY_AFTER
        whole.report("a")
    lines = out.getvalue().splitlines()
    assert len(lines) == 2
    assert lines[0] == "0 of 2 results, images 1 of 2"
    assert lines[1].startswith("1 of 2 results, about ")


def test_on_a_terminal_there_is_one_line_and_it_ends_full(monkeypatch: pytest.MonkeyPatch) -> None:
    display = Display()
    out = shown(display, monkeypatch, terminal=True)
    work(display)
    assert out.getvalue().count("\n") == 1
    assert "2 of 2 results" in out.getvalue()


def test_quiet_shows_nothing_but_what_is_insisted_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    display = Display(quiet=True)
    out = shown(display, monkeypatch, terminal=True)
    work(display)
    display.say("hello")
    assert out.getvalue() == ""
    display.insist("stopped")
    assert capsys.readouterr().err == "stopped\n"
