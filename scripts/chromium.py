"""A headless Chromium, spoken to over a pipe (Chrome DevTools Protocol): no port, no driver, no further package."""

from __future__ import annotations

import json
import os
import select
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--remote-debugging-pipe",
)
LAUNCH = """
import fcntl, os, sys
first, second = (fcntl.fcntl(int(fd), fcntl.F_DUPFD, 10) for fd in sys.argv[1:3])
os.dup2(first, 3)
os.dup2(second, 4)
os.execv(sys.argv[3], sys.argv[3:])
"""
"""Chromium reads from descriptor 3 and writes to 4."""


def installed() -> str | None:
    """The browser's file, if there is one."""
    return next((found for name in NAMES if (found := shutil.which(name))), None)


class Browser:
    """One page of a browser that runs.

    Attributes:
        events: What the page reported since it was last asked: name and parameters.
    """

    def __init__(self, to: int, back: int, seconds: float) -> None:
        self._to, self._back, self._seconds = to, back, seconds
        self._count, self._rest, self._session = 0, b"", ""
        self.events: list[tuple[str, dict[str, Any]]] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method: str, /, **parameters: Any) -> dict[str, Any]:
        """What the browser answers.

        Raises:
            RuntimeError: If it reports an error, or ends.
            TimeoutError: If it says nothing in time.
        """
        self._count += 1
        message = {"id": self._count, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        while (answer := self._next()).get("id") != self._count:
            self._keep(answer)
        if "error" in answer:
            raise RuntimeError(f"{method}: {answer['error'].get('message')}")
        result: dict[str, Any] = answer["result"]
        return result

    def wait(self, event: str) -> None:
        """Until the page reports this event."""
        while event not in (name for name, _ in self.events):
            self._keep(self._next())

    def evaluate(self, expression: str) -> Any:
        """Value of a JavaScript expression, promises waited for."""
        found = self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in found:
            raise RuntimeError(str(found["exceptionDetails"].get("exception", {}).get("description")))
        return found["result"].get("value")

    def _keep(self, message: dict[str, Any]) -> None:
        if "method" in message:
            self.events.append((message["method"], message.get("params", {})))

    def _next(self) -> dict[str, Any]:
        until = time.monotonic() + self._seconds
        while b"\0" not in self._rest:
            if not select.select([self._back], [], [], max(0.0, until - time.monotonic()))[0]:
                raise TimeoutError(f"Chromium said nothing for {self._seconds:.0f} s")
            if not (more := os.read(self._back, 1 << 16)):
                raise RuntimeError("Chromium has ended")
            self._rest += more
        first, _, self._rest = self._rest.partition(b"\0")
        message: dict[str, Any] = json.loads(first)
        return message


@contextmanager
def open_browser(program: str, seconds: float = 60.0) -> Iterator[Browser]:
    """A browser with a profile of its own, ended and forgotten afterwards.

    Args:
        program: From :func:`installed`.
        seconds: To wait for each answer.
    """
    read_by_it, to = os.pipe()
    back, written_by_it = os.pipe()
    with tempfile.TemporaryDirectory(prefix="report-", ignore_cleanup_errors=True) as profile:
        child = subprocess.Popen(
            [sys.executable, "-c", LAUNCH, str(read_by_it), str(written_by_it)]
            + [program, *FLAGS, f"--user-data-dir={Path(profile) / 'profile'}", "about:blank"],
            pass_fds=(read_by_it, written_by_it),
            stderr=subprocess.DEVNULL,
        )
        os.close(read_by_it)
        os.close(written_by_it)
        try:
            yield Browser(to, back, seconds)
        finally:
            os.close(to)  # it ends with its pipe
            os.close(back)
            try:
                child.wait(10)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
