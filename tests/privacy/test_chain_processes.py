"""A chain that several processes write, and one that is killed while it writes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from socket_core.privacy.chain import Chain

WRITE = """
import sys
from pathlib import Path
from socket_core.privacy.chain import Chain
path, name, count = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
for number in range(count):
    chain = Chain(path, whole=number % 2 == 0)
    with chain.locked():
        chain.append({"who": name, "number": number})
    print(number, flush=True)
"""


def writer(path: Path, name: str, count: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", WRITE, str(path), name, str(count)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_two_processes_lose_nothing_and_keep_one_chain(tmp_path: Path) -> None:
    path = tmp_path / "home" / "ledger.sqlite"
    Chain(path)
    processes = [writer(path, name, 15) for name in ("a", "b")]
    for process in processes:
        process.communicate()
        assert process.returncode == 0
    entries = Chain(path, create=False).read()
    for name in ("a", "b"):
        assert [e["number"] for e in entries if e["who"] == name] == list(range(15))
    assert len(entries) == 30


def test_what_was_written_survives_a_kill(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    with writer(path, "a", 10**6) as process:
        assert process.stdout is not None
        said = [int(process.stdout.readline()) for _ in range(5)]
        process.kill()
        said += [int(line) for line in process.stdout.read().split()]
    found = [e["number"] for e in Chain(path, create=False).read()]
    # At most one more: written, and killed before it could say so.
    assert found[: len(said)] == said
    assert len(found) <= len(said) + 1
    chain = Chain(path)
    with chain.locked():
        chain.append({"who": "b"})
    assert chain.newest()[0] == len(found) + 1
