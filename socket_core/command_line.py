"""How our command lines end: errors of ours are one message and their exit code, never a traceback."""

from __future__ import annotations

import signal
from collections.abc import Callable

from rich.console import Console

from socket_core.errors import SocketError


def run(command: Callable[[], object]) -> None:
    """Runs a command line; exit codes are listed in ``docs/exit-codes.md``.

    A termination signal ends it as Ctrl-C does, so that what it started is stopped too.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        command()
    except SocketError as error:
        Console(stderr=True).print(f"error: {error}", markup=False, highlight=False, soft_wrap=True)
        raise SystemExit(error.exit_code) from None
