"""What the shell offers after Tab. Nothing here imports PyTorch: an answer must come at once."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import get_args

from socket_core.config_method import MethodName
from socket_core.run_config import APP

MODES = ("local", "federated", "centralised")
PARTITIONS = ("iid", "dirichlet:0.5", "dirichlet:0.1", "sensor")


def methods(incomplete: str) -> list[str]:
    """Names of methods, after those that are typed already."""
    return listed(incomplete, get_args(MethodName))


def modes(incomplete: str) -> list[str]:
    """Names of modes likewise."""
    return listed(incomplete, MODES)


def partitions(incomplete: str) -> list[str]:
    """Partitions likewise; other ALPHA can be typed."""
    return listed(incomplete, PARTITIONS)


def configs(incomplete: str) -> list[str]:
    """Experiments of the app and YAML files and folders where the path has got to."""
    typed = Path(incomplete)
    folder = typed if incomplete.endswith("/") else typed.parent
    found = [f"{path}/" if path.is_dir() else str(path) for path in _entries(folder) if _offered(path)]
    found += [str(path.relative_to(APP)) for path in _entries(APP / "configs") if path.suffix == ".yaml"]
    return sorted({path for path in found if path.startswith(incomplete)})


def listed(incomplete: str, known: Sequence[str]) -> list[str]:
    """Completions of the last word of a comma-separated list by a known one that is not in it yet."""
    *before, last = incomplete.split(",")
    head = "".join(f"{word}," for word in before)
    return [head + word for word in known if word.startswith(last) and word not in before]


def _entries(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []


def _offered(path: Path) -> bool:
    return not path.name.startswith(".") and (path.is_dir() or path.suffix in (".yaml", ".yml"))
