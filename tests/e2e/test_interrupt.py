"""Ctrl-C and termination leave nothing running, and a state that the same command goes on from."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from server.results import read_results
from tests.e2e.processes import children_of, gone
from tests.server.builders import raw_with


@pytest.fixture(autouse=True)
def _heard() -> Iterator[None]:
    """What a shell starts in the background ignores Ctrl-C, and so would all that it starts."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def start(config: Path, home: Path, *extra: str) -> subprocess.Popen[str]:
    command = [str(Path(sys.executable).parent / "socket-owner"), "compare", "--config", str(config), "--in-process"]
    command += ["--out", str(home), "--methods", "adabn,shot", "--workers", "2", *extra]
    return subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True)


@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_stopped_comparison_leaves_no_process_and_goes_on(tmp_path: Path, sign: signal.Signals) -> None:
    config, home = tmp_path / "e.yaml", tmp_path / "home"
    config.write_text(yaml.safe_dump(raw_with(federation__steps=100_000, federation__rounds=1)))
    process = start(config, home)
    try:
        stop_and_go_on(process, config, home, sign)
    finally:
        process.kill()
        process.communicate()


def stop_and_go_on(process: subprocess.Popen[str], config: Path, home: Path, sign: signal.Signals) -> None:
    end = time.monotonic() + 90
    while not (list(home.glob("cells/*-adabn-*.json")) and len(children_of(process.pid)) >= 2):
        assert time.monotonic() < end, "no cell was finished"
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.1)
    children = children_of(process.pid)
    process.send_signal(sign)
    _, errors = process.communicate(timeout=30)
    if sign != signal.SIGKILL:  # a killed process has no last words
        assert process.returncode == 130
        assert "the same command goes on from here" in errors
        assert "Traceback" not in errors
    assert gone(children, 10)
    kept = {path.name: path.read_bytes() for path in home.glob("cells/*.json")}
    assert kept
    finished = start(config, home, "--methods", "adabn")
    _, errors = finished.communicate(timeout=120)
    assert finished.returncode == 0, errors
    assert "are kept from an earlier run and used again" in errors
    assert {path.name: path.read_bytes() for path in home.glob("cells/*.json")}.items() >= kept.items()
    assert {row.method for row in read_results(home / "results.json")[0]} == {"adabn"}
