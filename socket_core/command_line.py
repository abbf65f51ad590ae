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
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        text = f"error: {where}{error.strerror or error}\nWhat to do: check path, permissions and free space"
        Console(stderr=True).print(text, markup=False, highlight=False, soft_wrap=True)
        raise SystemExit(1) from None
