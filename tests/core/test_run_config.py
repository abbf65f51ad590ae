"""The flat run configuration of Flower names one experiment or several."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from socket_core.errors import ConfigError
from socket_core.run_config import APP, RunConfig


def run_with(home: Path, **values: Any) -> list[tuple[int, str, str]]:
    experiments = RunConfig.of({"home": str(home), **values}).experiments()
    return [(e.seed, e.name, e.method.name) for e in experiments]


def write(path: Path, name: str, method: str = "socket") -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"name: {name}\nmethod: {{name: {method}}}\n")
    return str(path)


def test_one_file_is_one_experiment_for_each_seed_and_method(tmp_path: Path) -> None:
    path = write(tmp_path / "a.yaml", "a")
    assert run_with(tmp_path, config=path) == [(0, "a", "socket")]
    found = run_with(tmp_path, config=path, seeds="0,2", methods="shot, adabn")
    assert found == [(0, "a", "shot"), (0, "a", "adabn"), (2, "a", "shot"), (2, "a", "adabn")]


def test_several_files_come_after_seeds_and_before_methods(tmp_path: Path) -> None:
    config = ", ".join(write(tmp_path / f"{n}.yaml", n, "shot") for n in "ba")
    assert run_with(tmp_path, config=config, seeds="1,0") == [
        (1, "b", "shot"),
        (1, "a", "shot"),
        (0, "b", "shot"),
        (0, "a", "shot"),
    ]
    methods = run_with(tmp_path, config=config, methods="adabn,socket")
    assert methods == [(0, "b", "adabn"), (0, "b", "socket"), (0, "a", "adabn"), (0, "a", "socket")]


def test_a_relative_file_is_the_apps_own_or_else_lies_in_the_home(tmp_path: Path) -> None:
    write(tmp_path / "experiments" / "mine.yaml", "mine")
    write(tmp_path / "configs" / "demo.yaml", "impostor")
    found = run_with(tmp_path, config="configs/demo.yaml,experiments/mine.yaml")
    assert [name for _, name, _ in found] == ["demo", "mine"]


def test_a_comma_in_the_folder_is_no_separator_where_the_file_exists(tmp_path: Path) -> None:
    path = write(tmp_path / "one, two" / "a.yaml", "a")
    assert run_with(tmp_path, config=path) == [(0, "a", "socket")]
    assert run_with(Path(path).parent, config="a.yaml,a.yaml") == [(0, "a", "socket")] * 2


def test_a_file_that_is_nowhere_is_named_in_the_app(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot read it") as caught:
        run_with(tmp_path, config="configs/demo.yaml,configs/nothing.yaml")
    assert caught.value.where == str(APP / "configs" / "nothing.yaml")
