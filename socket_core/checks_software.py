"""Checks of what is installed and of the experiment's file, for owners and sites alike."""

from __future__ import annotations

import sys
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from socket_core.checks import Check, Examination, failed, ok, warning
from socket_core.config import Experiment, load_experiment
from socket_core.run_config import APP

CHECKED = ("socket-fl", "torch", "flwr", "numpy", "cryptography", "protobuf")
"""Packages whose version decides whether things work."""


def examine_software(found: Examination, constraints: Path = APP / "constraints.txt") -> None:
    """Adds Python and the packages that decide whether things work."""
    found.run("python", check_python)
    needed, pinned = requirements(), pins(constraints)
    for package in CHECKED:
        found.run(
            package, partial(check_version, package, installed(package), needed.get(package), pinned.get(package))
        )


def examine_experiment(found: Examination, config: Path | None, overrides: dict[str, Any]) -> list[Experiment]:
    """Adds the check of an experiment's file, and returns what it says; nothing without one, or if it is wrong."""
    read: list[Experiment] = []

    def check(path: Path) -> Check:
        read.append(load_experiment(path, overrides))
        return ok("experiment", f"{read[0].name}: {read[0].method.name}, {read[0].data.size} px")

    if config is not None:
        found.run("experiment", partial(check, config))
    return read


def check_python(found: tuple[int, ...] = sys.version_info[:3]) -> Check:
    """Python 3.11 is what the tests run on."""
    said = ".".join(map(str, found))
    if found < (3, 11):
        return failed("python", said, "install Python 3.11")
    return (
        ok("python", said) if found < (3, 12) else warning("python", f"{said}, tested with 3.11", "prefer Python 3.11")
    )


def check_version(package: str, found: str | None, required: Requirement | None, pin: str | None) -> Check:
    """Whether an installed version is one that the product admits, and the one that it is tested with."""
    if found is None:
        return failed(package, "not installed", f"uv pip install '{required or package}'")
    if required is not None and not required.specifier.contains(found, prereleases=True):
        return failed(package, f"{found}, expected {required.specifier}", f"uv pip install '{required}'")
    if pin is not None and Version(found).public != Version(pin).public:
        return warning(package, f"{found}, tested with {pin}", "install with -c constraints.txt")
    return ok(package, found)


def installed(package: str) -> str | None:
    """The version of a package, None where it is not installed."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def requirements(package: str = "socket-fl") -> dict[str, Requirement]:
    """What a package requires, without its extras; nothing where it is not installed."""
    try:
        lines = metadata.requires(package) or []
    except metadata.PackageNotFoundError:
        return {}
    needed = [Requirement(line) for line in lines]
    return {canonicalize_name(r.name): r for r in needed if r.marker is None or r.marker.evaluate({"extra": ""})}


def pins(constraints: Path) -> dict[str, str]:
    """Versions of ``constraints.txt``; nothing outside a checkout, which alone has the file."""
    lines = constraints.read_text(encoding="utf-8").splitlines() if constraints.is_file() else []
    return {canonicalize_name(a): b for a, _, b in (line.partition("==") for line in lines) if b}
