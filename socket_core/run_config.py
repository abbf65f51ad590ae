"""The flat run configuration of Flower: which experiment, and where things are written."""

from __future__ import annotations

import itertools
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
    """Values of ``[tool.flwr.app.config]``; an empty text means "the experiment's own".

    Attributes:
        config: The experiment, inside the app, below ``home`` or as an absolute path; or several, comma-separated.
        methods: Comma-separated; each is a federation of its own, one after the other.
        seeds: Comma-separated numbers; likewise.
        home: Where keys, releases and runs are written.
        cache: Rendered or decoded images.
        data: Folder of images, in place of ``data.root``.
        resume: ``no``, ``yes`` or ``auto``: whether to go on from the newest checkpoints.
    """

    config: str
    methods: str
    seeds: str
    home: Path
    cache: Path
    data: str
    resume: str

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> RunConfig:
        """Reads Flower's run configuration."""
        home = str(values.get("home", "")) or os.environ.get("SOCKET_FL_HOME", "") or "~/.socket-fl"
        folder = Path(home).expanduser().resolve()
        cache = str(values.get("cache", ""))
        return cls(
            config=str(values.get("config", "configs/demo.yaml")),
            methods=str(values.get("methods", "")),
            seeds=str(values.get("seeds", "")),
            home=folder,
            cache=Path(cache).expanduser().resolve() if cache else folder / "cache",
            data=str(values.get("data", "")),
            resume=str(values.get("resume", "no")),
        )

    def experiments(self) -> list[Experiment]:
        """One experiment for each seed, file and method, seeds outermost.

        Raises:
            ConfigError: If a file or a value is wrong.
        """
        grid = itertools.product(_words(self.seeds), self._files(), _words(self.methods))
        return [load_experiment(path, overrides(method, seed, self.data)) for seed, path, method in grid]

    def _files(self) -> list[Path]:
        if (alone := Path(self.config).expanduser()).is_absolute() and alone.exists():
            return [alone]  # whose path may hold a comma
        return [self._file(Path(word).expanduser()) for word in _words(self.config)]

    def _file(self, path: Path) -> Path:
        if path.is_absolute():
            return path
        in_app, in_home = APP / path, self.home / path
        return in_home if in_home.is_file() and not in_app.is_file() else in_app


def overrides(method: str = "", seed: str = "", data: str = "") -> dict[str, Any]:
    """Dotted overrides of an experiment; empty values override nothing."""
    root = str(Path(data).expanduser().resolve()) if data else ""
    given = {"method.name": method, "seed": int(seed) if seed.isdecimal() else seed, "data.root": root}
    return {key: value for key, value in given.items() if value != ""}


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",")]
