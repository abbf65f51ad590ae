"""A measurement in a process of its own, so that its memory is too: ``python -m benchmarks.child MODULE NAME JSON``."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

Found = dict[str, float]


def in_child(module: str, function: str, *, environment: Mapping[str, str] | None = None, **settings: Any) -> Found:
    """What ``benchmarks.MODULE.FUNCTION(**settings)`` returns in a fresh process, with variables added to this one's.

    Raises:
        CalledProcessError: If it fails; its standard error has been passed on.
    """
    command = [sys.executable, "-m", "benchmarks.child", module, function, json.dumps(settings)]
    variables = {**os.environ, **(environment or {})}
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=variables)
    found: Found = json.loads(done.stdout.splitlines()[-1])
    return found


def resident(key: str = "VmRSS") -> float:
    """MB of this process now (``VmRSS``) or at most (``VmHWM``); Linux."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{key}:")) / 1024


class Peak:
    """The largest resident size from now on, above the size now, in MB."""

    def __init__(self) -> None:
        self.before = resident()
        self.again()

    def again(self) -> None:
        """Counts the largest size anew from here, above the same size as before."""
        Path("/proc/self/clear_refs").write_text("5")

    def above(self) -> float:
        """Until now."""
        return resident("VmHWM") - self.before


def main() -> None:
    """Calls what the arguments name and prints what it returns as JSON."""
    module, function, settings = sys.argv[1:]
    torch.set_num_threads(1)
    for name in ("flwr", "socket_fl"):  # what sites say of networks with random weights is of no interest here
        logging.getLogger(name).setLevel(logging.ERROR)
    print(json.dumps(getattr(import_module(f"benchmarks.{module}"), function)(**json.loads(settings))))


if __name__ == "__main__":
    main()
