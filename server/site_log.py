"""What the simulated sites of a comparison say goes into a file: nobody reads hundreds of warnings as they pass."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SITES = "socket_fl"
"""Logger of all that sites and steps say."""


@contextmanager
def logged_to(path: Path) -> Iterator[None]:
    """Sites' warnings go to a file for the length of the body."""
    logger = logging.getLogger(SITES)
    before, handler = logger.propagate, log_to(path)
    try:
        yield
    finally:
        logger.propagate = before
        logger.removeHandler(handler)
        handler.close()


def log_to(path: Path) -> logging.Handler:
    """Sites' warnings go to a file from now on, in this process."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handler = logging.FileHandler(path, encoding="utf-8", delay=True)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    logger = logging.getLogger(SITES)
    logger.addHandler(handler)
    logger.propagate = False
    return handler
