"""A file that extends another writes what differs; the rest, and the blame for what is wrong, stay with the other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from socket_core.config import load_experiment
from socket_core.errors import ConfigError
from socket_core.extends import Layer, merge


def write(folder: Path, **files: str) -> Path:
    """Writes ``<key>.yaml`` for each text; gives the path of the first."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / f"{name}.yaml").write_text(text, encoding="utf-8")
    return folder / f"{next(iter(files))}.yaml"


def merged(*layers: dict[str, Any]) -> dict[str, Any]:
    return merge([Layer(Path(f"{i}.yaml"), values) for i, values in enumerate(layers)])


values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.integers() | st.lists(st.integers(), max_size=2),
    lambda inner: st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=8,
)
mappings = st.dictionaries(st.sampled_from("abc"), values, max_size=3)


@given(mappings, mappings, mappings)
def test_a_chain_is_its_file_over_the_rest_and_an_empty_file_changes_nothing(
    a: dict[str, Any], b: dict[str, Any], c: dict[str, Any]
) -> None:
    assert merged(a, b, c) == merged(a, merged(b, c))
    assert merged(a, {}) == merged({}, a) == merged(a, a) == a


def test_mappings_are_merged_and_anything_else_is_replaced() -> None:
    base = {"a": {"b": {"x": 1, "y": 2}, "list": [1, 2]}, "kept": 3, "scalar": 4, "mapping": {"x": 1}}
    child = {"a": {"b": {"y": 5}, "list": [9]}, "scalar": {"x": 6}, "mapping": None}
    assert merged(child, base) == {
        "a": {"b": {"x": 1, "y": 5}, "list": [9]},
        "kept": 3,
        "scalar": {"x": 6},
        "mapping": None,
    }
    assert base["a"] == {"b": {"x": 1, "y": 2}, "list": [1, 2]}


def test_a_chain_gives_each_key_of_the_nearest_file_and_overrides_come_last(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        c="extends: b.yaml\nname: c\nmethod: {weights: {ti: 0}}",
        b="extends: a.yaml\nname: b\nmethod: {lr: 0.5}\nfederation: {sites: 3}",
        a="name: a\nseed: 7\nmethod: {lr: 0.25, batch: 8, weights: {ti: 3.0, im: 2.0}}",
    )
    experiment = load_experiment(path, {"method.batch": 16})
    assert (experiment.name, experiment.seed, experiment.federation.sites) == ("c", 7, 3)
    method = experiment.method
    assert (method.lr, method.batch, method.weights.ti, method.weights.im) == (0.5, 16, 0.0, 2.0)


def test_extending_gives_the_experiment_that_one_whole_file_would(tmp_path: Path) -> None:
    whole = write(tmp_path, whole="name: x\nmethod: {lr: 0.5, batch: 8}\nfederation: {sites: 3}")
    parts = write(
        tmp_path,
        parts="extends: base.yaml\nname: x\nmethod: {lr: 0.5}",
        base="name: y\nmethod: {lr: 0.1, batch: 8}\nfederation: {sites: 3}",
    )
    assert load_experiment(parts) == load_experiment(whole)
    assert load_experiment(parts).digest() == load_experiment(whole).digest()


def test_a_relative_root_is_found_from_the_file_that_writes_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base = "name: base\ndata: {kind: folder, root: ../images, classes: [a, b]}"
    write(tmp_path / "shared", base=base)
    inherits = write(tmp_path / "mine" / "deep", inherits="extends: ../../shared/base.yaml\nname: one")
    own = write(tmp_path / "mine" / "deep", own="extends: ../../shared/base.yaml\nname: two\ndata: {root: here}")
    monkeypatch.chdir(tmp_path / "mine")
    assert load_experiment(Path("deep/inherits.yaml")).data.root == str(tmp_path / "images")
    assert load_experiment(inherits).data.root == str(tmp_path / "images")
    assert load_experiment(own).data.root == str(tmp_path / "mine" / "deep" / "here")
    assert load_experiment(own).data.classes == ("a", "b")
    assert load_experiment(own, {"data.root": "/elsewhere"}).data.root == "/elsewhere"


@pytest.mark.parametrize(
    ("files", "circle"),
    [
        ({"a": "extends: a.yaml\nname: a"}, "a.yaml -> a.yaml"),
        ({"a": "extends: b.yaml\nname: a", "b": "extends: ./a.yaml\nname: b"}, "a.yaml -> b.yaml -> a.yaml"),
        (
            {"a": "extends: b.yaml\nname: a", "b": "extends: c.yaml\nname: b", "c": "extends: b.yaml\nname: c"},
            "b.yaml -> c.yaml -> b.yaml",
        ),
    ],
)
def test_a_circle_is_refused_and_shown(tmp_path: Path, files: dict[str, str], circle: str) -> None:
    with pytest.raises(ConfigError, match=f"circle, {circle}") as caught:
        load_experiment(write(tmp_path, **files))
    assert caught.value.where == str(tmp_path / f"{list(files)[-1]}.yaml")


@pytest.mark.parametrize(
    ("child", "message"),
    [
        ("extends: base.yaml", "key 'name' is missing"),
        ("extends: missing.yaml\nname: x", r"key 'extends': there is no file .*missing\.yaml"),
        ("extends: .\nname: x", "key 'extends': there is no file"),
        ("extends: [base.yaml]\nname: x", "key 'extends': expected a file"),
        ("extends:\nname: x", "key 'extends': expected a file"),
    ],
)
def test_what_is_wrong_with_extending_names_the_file_that_extends(tmp_path: Path, child: str, message: str) -> None:
    path = write(tmp_path, child=child, base="name: base")
    with pytest.raises(ConfigError, match=message) as caught:
        load_experiment(path)
    assert caught.value.where == str(path)
    assert caught.value.remedy


@pytest.mark.parametrize(
    ("child", "base", "key", "guilty"),
    [
        ("", "method: {lerning_rate: 1}", "method.lerning_rate", "base"),
        ("method: {lr: 0.5}", "method: {lerning_rate: 1}", "method.lerning_rate", "base"),
        ("method: {lerning_rate: 1}", "method: {lr: 0.5}", "method.lerning_rate", "child"),
        ("method: {lr: 0}", "method: {lr: 0.5}", "method.lr", "child"),
        ("method: 3", "method: {lr: 0.5}", "method", "child"),
        ("seed: 1", "data: {classes: [a, 3]}", "data.classes.1", "base"),
        ("federation: {sites: 2}", "federation: {quorum: 3}", "federation", "child"),
    ],
)
def test_a_wrong_key_is_blamed_on_the_file_that_holds_it(
    tmp_path: Path, child: str, base: str, key: str, guilty: str
) -> None:
    path = write(tmp_path, child=f"extends: base.yaml\nname: child\n{child}", base=base)
    with pytest.raises(ConfigError, match=f"key '{key}'") as caught:
        load_experiment(path)
    assert caught.value.where == str(tmp_path / f"{guilty}.yaml")


def test_a_wrong_override_is_not_blamed_on_a_file_that_is_right(tmp_path: Path) -> None:
    path = write(tmp_path, child="extends: base.yaml\nname: child", base="seed: 1")
    with pytest.raises(ConfigError, match="seed") as caught:
        load_experiment(path, {"seed": "many"})
    assert caught.value.where == str(path)


def test_a_base_that_is_no_mapping_is_named(tmp_path: Path) -> None:
    path = write(tmp_path, child="extends: base.yaml\nname: child", base="- seed")
    with pytest.raises(ConfigError, match="expected keys and values") as caught:
        load_experiment(path)
    assert caught.value.where == str(tmp_path / "base.yaml")


def test_extends_does_not_travel(tmp_path: Path) -> None:
    experiment = load_experiment(write(tmp_path, child="extends: base.yaml\nname: child", base="seed: 1"))
    assert "extends" not in yaml.safe_load(experiment.model_dump_json())
