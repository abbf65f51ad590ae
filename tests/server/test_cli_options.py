"""Comma-separated options: what they mean, and errors that name the option."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from server import cli_completion as complete
from server import cli_options as options
from server.grid import Axes
from server.results import MODES
from socket_core.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", (7,)),
        ("3", (0, 1, 2)),
        ("1", (0,)),
        ("0", (0,)),
        ("3,", (3,)),
        ("0,1,2", (0, 1, 2)),
        ("4,2,4", (4, 2)),
        (" 5 , 1 ", (5, 1)),
    ],
)
def test_a_lone_number_counts_seeds_and_a_comma_makes_a_list(text: str, expected: tuple[int, ...]) -> None:
    assert options.seeds(text, 7) == expected


def test_axes_are_read_each_value_once() -> None:
    found = options.axes("1,3.0,3,NONE", "2,4, 4", "iid,dirichlet:0.5")
    assert found == Axes((1.0, 3.0, None), (2, 4), ("iid", "dirichlet:0.5"))
    assert options.axes("", "", "") == Axes()


@pytest.mark.parametrize(
    ("option", "read"),
    [
        *(("--epsilon", lambda w=w: options.axes(w, "", "")) for w in ("0", "-1", "inf", "nan", "three", ",")),
        *(("--sites", lambda w=w: options.axes("", w, "")) for w in ("0", "2.5", "-2", "two", " ,")),
        *(("--partition", lambda w=w: options.axes("", "", w)) for w in ("dirichlet", "dirichlet:0", "even", ",")),
        *(("--seeds", lambda w=w: options.seeds(w, 0)) for w in ("one", "-1", "1,x", ",", "1.5")),
        ("--methods", lambda: options.methods("sockt", needed=False)),
        ("--methods", lambda: options.methods("none", needed=True)),
        ("--modes", lambda: options.modes("central")),
        ("--modes", lambda: options.modes(",")),
    ],
)
def test_a_wrong_value_is_an_error_that_names_its_option_and_a_remedy(option: str, read: Callable[[], object]) -> None:
    with pytest.raises(ConfigError) as caught:
        read()
    assert caught.value.where == option
    assert caught.value.remedy


def test_completion_goes_on_after_the_last_comma_with_what_is_not_there_yet() -> None:
    assert complete.methods("s") == ["shot", "socket"]
    assert complete.methods("shot,s") == ["shot,socket"]
    assert complete.modes("") == list(MODES)
    assert complete.partitions("iid,dirichlet:0.5,d") == ["iid,dirichlet:0.5,dirichlet:0.1"]


def test_completion_offers_the_apps_experiments_and_yaml_files_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:

    here = tmp_path
    (here / "mine.yaml").touch()
    (here / "mine.txt").touch()
    (here / "minor").mkdir()
    (here / ".hidden.yaml").touch()
    monkeypatch.chdir(here)
    assert complete.configs("mi") == ["mine.yaml", "minor/"]
    assert "configs/demo.yaml" in complete.configs("configs/d")
