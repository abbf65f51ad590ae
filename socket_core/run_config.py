"""The flat run configuration of Flower: which experiment, and where things are written."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from socket_core.config import Experiment, load_experiment

APP = Path(__file__).resolve().parents[1]
"""The app's folder: Flower runs a copy, so configs are found from here and not from the working directory."""


@dataclass(frozen=True)
class RunConfig:
    """Values of ``[tool.flwr.app.config]``; an empty string or -1 means "the experiment's own"."""

    config: str
    method: str
    seed: int
    home: Path
    cache: Path
    data: str
    resume: bool

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> RunConfig:
        """Reads Flower's run configuration."""
        home = str(values.get("home", "")) or os.environ.get("SOCKET_FL_HOME", "") or "~/.socket-fl"
        folder = Path(home).expanduser().resolve()
        cache = str(values.get("cache", ""))
        return cls(
            config=str(values.get("config", "configs/demo.yaml")),
            method=str(values.get("method", "")),
            seed=int(values.get("seed", -1)),
            home=folder,
            cache=Path(cache).expanduser().resolve() if cache else folder / "cache",
            data=str(values.get("data", "")),
            resume=bool(values.get("resume", False)),
        )

    def experiment(self) -> Experiment:
        """The experiment with the run's overrides.

        Raises:
            ConfigError: If the file or a value is wrong.
        """
        path = Path(self.config).expanduser()
        return load_experiment(path if path.is_absolute() else APP / path, overrides(self.method, self.seed, self.data))


def overrides(method: str = "", seed: int = -1, data: str = "") -> dict[str, Any]:
    """Dotted overrides of an experiment; empty values override nothing."""
    out: dict[str, Any] = {}
    if method:
        out["method.name"] = method
    if seed >= 0:
        out["seed"] = seed
    if data:
        out["data.root"] = data
    return out
