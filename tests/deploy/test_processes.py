"""Processes end with all they started: when stopped, when they crash, when their supervisor is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from deploy import processes
from tests.deploy.builders import python, wait_until, with_repository
from tests.e2e.processes import gone

SLEEPER = "import time; time.sleep(600)"
STUBBORN = (
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(600)"
)
PARENT = (
    "import subprocess, sys, time; "
    f"child = subprocess.Popen([sys.executable, '-I', '-S', '-c', {SLEEPER!r}], start_new_session=bool(sys.argv[1:])); "
    "print(child.pid, flush=True); time.sleep(600)"
)


def spawned(program: str, *arguments: str) -> subprocess.Popen[bytes]:
    return processes.spawn(python(program, *arguments), environment=os.environ, folder=Path("/"))


def first_line(process: subprocess.Popen[bytes]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().decode().strip()


def test_stop_ends_the_group() -> None:
    with spawned(PARENT) as process:
        child = int(first_line(process))
        processes.stop(process)
        assert process.returncode == -signal.SIGTERM
        assert gone([child], 10)


def test_a_lost_child_is_noticed_though_nobody_waited_for_it() -> None:
    name = Path(sys.executable).name
    with spawned(PARENT) as process:
        child = int(first_line(process))
        assert not processes.lost_child(process.pid, name)
        assert processes.lost_child(process.pid, "flower-superexec")
        os.kill(child, signal.SIGKILL)
        wait_until(lambda: processes.lost_child(process.pid, name))
        processes.stop(process)
    assert not processes.lost_child(process.pid, name)  # no child at all: nothing was started yet


def test_who_does_not_listen_is_killed() -> None:
    with spawned(STUBBORN) as process:
        assert first_line(process) == "up"
        processes.stop(process, term=0.2)
        assert process.returncode == -signal.SIGKILL


def test_a_group_whose_leader_has_ended_is_ended_too() -> None:
    with spawned(PARENT) as process:
        child = int(first_line(process))
        process.kill()
        process.wait()
        processes.stop(process)
        assert gone([child], 10)


def test_stopping_twice_is_no_error() -> None:
    with spawned("pass") as process:
        process.wait()
        processes.stop(process)
        processes.stop(process)
        assert process.returncode == 0


SUPERVISOR = f"""
import os, sys, time
from pathlib import Path
from deploy import processes
adopted = processes.adopt_orphans()
child = processes.spawn([sys.executable, "-I", "-S", "-c", {PARENT!r}, "own session"], environment=os.environ,
                        folder=Path("/"))
grandchild = int(child.stdout.readline())
Path(sys.argv[1] + ".tmp").write_text(f"{{child.pid}} {{grandchild}} {{adopted}}")
os.rename(sys.argv[1] + ".tmp", sys.argv[1])
if sys.argv[2] == "stop":
    processes.stop(child)
    assert (processes.stop_orphans(), processes.stop_orphans()) == (1, 0)
else:
    time.sleep(600)
"""


def test_a_child_in_a_session_of_its_own_is_found_and_ended(tmp_path: Path) -> None:
    with with_repository(SUPERVISOR, str(tmp_path / "pids"), "stop") as process:
        assert process.wait(60) == 0
    _, grandchild, adopted = (tmp_path / "pids").read_text().split()
    assert adopted == "True"
    assert gone([int(grandchild)], 0.5)


def test_a_killed_supervisor_takes_its_child_along(tmp_path: Path) -> None:
    with with_repository(SUPERVISOR, str(tmp_path / "pids"), "sleep") as process:
        wait_until((tmp_path / "pids").exists)
        child, grandchild, _ = (tmp_path / "pids").read_text().split()
        process.kill()
        process.wait()
    try:
        assert gone([int(child)], 10)
    finally:
        os.kill(int(grandchild), signal.SIGKILL)  # in a session of its own: Flower's looks after its parent itself
