"""A service is kept running: restarts, growing pauses, recovery, and the sentence about what was wrong."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from deploy.health import Health, duration, line
from deploy.supervisor import Backoff, Service, Supervisor
from tests.deploy.builders import Clock, python, wait_until

SLEEPER = "import time; time.sleep(600)"


class Nowhere:
    """Output that nobody reads."""

    def attach(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout is not None
        process.stdout.close()

    def finish(self) -> None:
        pass


class Watched(Supervisor):
    """A supervisor of ``program`` with a clock of the test's own."""

    def __init__(
        self,
        program: str,
        *,
        ready: Callable[[], bool] = lambda: True,
        command: list[str] | None = None,
        maimed: Callable[[int], str] = lambda _pid: "",
    ):
        self.clock, self.swept = Clock(), 0
        service = Service(
            "thing",
            command or python(program),
            os.environ,
            Path("/"),
            ready,
            lambda status: f"ended with {status}",
            maimed,
        )
        super().__init__(service, Nowhere(), backoff=Backoff(1.0, 8.0, 60.0), clock=self.clock, sweep=self.count)

    def count(self) -> None:
        self.swept += 1

    def until(self, state: str) -> None:
        """Ticks until it is in a state."""

        def reached() -> bool:
            self.tick()
            return self.state == state

        wait_until(reached)


@pytest.fixture
def sleeper() -> Iterator[Watched]:
    watched = Watched(SLEEPER)
    yield watched
    watched.stop()


def test_pauses_double_up_to_the_longest() -> None:
    assert [Backoff(1.0, 8.0).pause(n) for n in (1, 2, 3, 4, 5, 2000)] == [1.0, 2.0, 4.0, 8.0, 8.0, 8.0]


def test_what_ends_is_started_again_after_growing_pauses() -> None:
    watched = Watched("raise SystemExit(3)")
    pauses = []
    for _ in range(5):
        watched.until("waiting")
        pauses.append(watched.pause)
        watched.tick()
        assert watched.pid is None  # not before its time
        watched.clock.now += watched.pause
        watched.tick()
        assert watched.pid is not None
    watched.stop()
    assert pauses == [1.0, 2.0, 4.0, 8.0, 8.0]
    assert watched.restarts == 5
    assert watched.trouble == "ended with 3"
    assert watched.swept == 6  # after each end, and at the stop


def test_a_service_is_up_when_it_says_so() -> None:
    ready = False
    watched = Watched(SLEEPER, ready=lambda: ready)
    for _ in range(3):
        watched.tick()
        assert str(watched.state) == "starting"
    ready = True
    watched.tick()
    assert str(watched.state) == "up"
    watched.stop()
    assert str(watched.state) == "stopped"
    assert watched.pid is None
    watched.tick()
    assert watched.pid is None


def test_who_was_up_for_long_enough_starts_with_the_shortest_pause_again(sleeper: Watched) -> None:
    pauses = []
    for seconds in (0.0, 59.0, 60.0):
        sleeper.until("up")
        sleeper.clock.now += seconds
        sleeper.tick()
        assert sleeper.pid is not None
        os.kill(sleeper.pid, 9)
        sleeper.until("waiting")
        pauses.append(sleeper.pause)
        sleeper.clock.now += sleeper.pause
    assert pauses == [1.0, 2.0, 1.0]


def test_who_lives_and_can_do_no_work_is_started_again() -> None:
    why = ""
    watched = Watched(SLEEPER, maimed=lambda _pid: why)
    watched.until("up")
    first, why = watched.pid, "its executor was ended"
    watched.tick()
    assert watched.pid == first  # it is not looked at all the time
    watched.clock.now += 5.0
    watched.tick()
    assert (str(watched.state), watched.trouble, watched.pause, watched.swept) == ("waiting", why, 1.0, 1)
    why = ""
    watched.clock.now += 1.0
    watched.until("up")
    assert watched.pid not in (None, first)
    watched.stop()


def test_trouble_is_over_when_the_service_is_up(sleeper: Watched) -> None:
    sleeper.until("up")
    assert sleeper.pid is not None
    os.kill(sleeper.pid, 9)
    sleeper.until("waiting")
    assert sleeper.trouble == "ended with -9"
    sleeper.clock.now += 1.0
    sleeper.until("up")
    assert sleeper.trouble == ""
    assert sleeper.restarts == 1


def test_a_program_that_is_not_there_is_said_and_tried_again() -> None:
    watched = Watched("", command=["/nowhere/at/all"])
    watched.tick()
    assert (watched.state, watched.pid, watched.restarts) == ("waiting", None, 1)
    assert watched.trouble == "/nowhere/at/all cannot be started (No such file or directory)"


def test_the_health_line_comes_on_change_and_now_and_then(sleeper: Watched) -> None:
    said: list[str] = []
    more = "0 of 2 sites connected"
    health = Health(sleeper, said.append, more=lambda: more, every=300.0, clock=sleeper.clock)
    sleeper.until("up")
    health.tick()
    health.tick()
    assert said == [f"thing: up, pid {sleeper.pid}, for 0:00:00, restarts 0, 0 of 2 sites connected"]
    sleeper.clock.now += 299.0
    health.tick()
    assert len(said) == 1
    sleeper.clock.now += 1.0
    health.tick()
    assert said[1:] == [f"thing: up, pid {sleeper.pid}, for 0:05:00, restarts 0, 0 of 2 sites connected"]
    more = "1 of 2 sites connected"
    health.tick()
    assert said[2:] == [f"thing: up, pid {sleeper.pid}, for 0:05:00, restarts 0, 1 of 2 sites connected"]


def test_a_waiting_service_says_when_and_why() -> None:
    watched = Watched("raise SystemExit(3)")
    watched.until("waiting")
    assert line(watched, "") == "thing: waiting, next start in 1 s, restarts 1, ended with 3"


def test_durations() -> None:
    assert [duration(s) for s in (0.9, 61, 3600, 90061)] == ["0:00:00", "0:01:01", "1:00:00", "1 d 1:01:01"]
