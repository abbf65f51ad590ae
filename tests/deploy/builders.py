"""Small deployments, and children that do one thing."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import typer

from deploy.create import create_deployment
from deploy.layout import Deployment, DeploymentFile, open_deployment


def file_with(**changes: Any) -> DeploymentFile:
    """``deployment.yaml`` of a small deployment."""
    values: dict[str, Any] = {"name": "plants", "host": "owner.example.org", "sites": ("north", "south"), **changes}
    return DeploymentFile(**values)


def deployment_in(folder: Path, **changes: Any) -> Deployment:
    """A new deployment."""
    create_deployment(folder, file_with(**changes), days=100)
    return open_deployment(folder)


def command_names(app: typer.Typer) -> set[str]:
    """Commands of one of our programs."""
    return set(typer.main.get_command(app).commands)  # type: ignore[attr-defined]


def python(program: str, *arguments: str) -> list[str]:
    """Command of a Python program that needs nothing installed."""
    return [sys.executable, "-I", "-S", "-c", program, *arguments]


def with_repository(program: str, *arguments: str) -> subprocess.Popen[bytes]:
    """A process that can import this project."""
    root = Path(__file__).resolve().parents[2]
    return subprocess.Popen(
        [sys.executable, "-c", program, *arguments], env={**os.environ, "PYTHONPATH": str(root)}, cwd=root
    )


def wait_until(done: Callable[[], object], seconds: float = 60.0) -> None:
    """Waits for something that happens at once on an idle machine."""
    end = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < end, "it never happened"
        time.sleep(0.02)


class Clock:
    """Seconds that pass when told."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now
