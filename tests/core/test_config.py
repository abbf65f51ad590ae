"""Configurations say which key is wrong, and travel as JSON without becoming another experiment."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from socket_core.config import Experiment, MethodConfig, load_experiment, parse_experiment, parse_experiment_json
from socket_core.errors import ConfigError

ROOT = Path(__file__).resolve().parents[2]
SHIPPED = sorted((ROOT / "configs").glob("*.yaml"))


def _file(folder: Path, text: str) -> Path:
    path = folder / "experiment.yaml"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("path", SHIPPED, ids=lambda p: p.stem)
def test_every_shipped_experiment_loads_and_travels(path: Path) -> None:
    experiment = load_experiment(path)
    assert experiment.name == path.stem
    again = parse_experiment_json(experiment.model_dump_json(), where="message")
    assert again == experiment
    assert again.digest() == experiment.digest()


def test_there_is_a_shipped_experiment() -> None:
    assert SHIPPED


def test_an_empty_file_is_the_default_experiment(tmp_path: Path) -> None:
    assert load_experiment(_file(tmp_path, "")) == Experiment()


def test_one_set_of_defaults_serves_all_methods_and_data() -> None:
    method = MethodConfig()
    assert method.weights.model_dump() == {"pl": 0.3, "im": 1.0, "bn": 0.05, "ti": 5.0}
    assert method.transfer.model_dump() == {"kl": 1.0, "ti": 5.0, "pl": 0.3, "im": 1.0, "bn": 0.05}
    assert method.translator.weights.model_dump() == {"rec": 1.0, "domain": 0.1, "im": 0.1, "features": 5.0}
    assert (method.ti_loss, method.first_layer, method.trust) == ("per_sample", 10.0, "agreement")
    assert (method.lr, method.backbone_lr_scale) == (0.03, 1.0)


@pytest.mark.parametrize(("translator", "rounds", "legal"), [(1, 1, False), (1, 2, True), (3, 3, False), (2, 3, True)])
def test_the_translator_leaves_rounds_for_the_transfer(translator: int, rounds: int, legal: bool) -> None:
    def job(name: str, kind: str) -> Experiment:
        method = {"name": name, "translator": {"kind": kind, "rounds": translator}}
        return parse_experiment({"method": method, "federation": {"rounds": rounds}}, where="test")

    job("socket", "unet")
    job("tgkt", "replicate")  # nothing to learn
    if legal:
        job("tgkt", "unet")
    else:
        with pytest.raises(ConfigError, match="leaves nothing of federation.rounds"):
            job("tgkt", "unet")


@pytest.mark.parametrize(
    ("text", "key", "near", "known"),
    [
        ("sed: 1", "sed", "seed", "federation"),
        ("methods: {name: shot}", "methods", "method", "network"),
        ("method: {lerning_rate: 1, lr: 0.1}", "method.lerning_rate", "", "backbone_lr_scale"),
        ("method: {ti_los: frobenius}", "method.ti_los", "ti_loss", "first_layer"),
        ("method: {weights: {pl: 1, imm: 2}}", "method.weights.imm", "im", "bn"),
        ("data: {scenes: {source_trian: 9}}", "data.scenes.source_trian", "source_train", "target_test"),
    ],
)
def test_an_unknown_key_is_named_with_the_nearest_one(
    tmp_path: Path, text: str, key: str, near: str, known: str
) -> None:
    path = _file(tmp_path, text)
    with pytest.raises(ConfigError, match=f"unknown key '{key}'") as caught:
        load_experiment(path)
    assert caught.value.where == str(path)
    assert known in caught.value.remedy
    if near:
        assert f"did you mean '{near}'" in caught.value.remedy


def test_a_key_like_no_other_gets_no_suggestion(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="zzzzzz") as caught:
        load_experiment(_file(tmp_path, "zzzzzz: 1"))
    assert "did you mean" not in caught.value.remedy
    assert "seed" in caught.value.remedy


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("seed: many", "seed"),
        ("seed: -1", "seed"),
        ("seed: 1.5", "seed"),
        ("name: a/b", "name"),
        ("device: tpu", "device"),
        ("method: {lr: [0.1]}", "method.lr"),
        ("method: {lr: 0}", "method.lr"),
        ("method: {name: sokcet}", "method.name"),
        ("method: {weights: {pl: -1}}", "method.weights.pl"),
        ("method: 3", "method"),
        ("method:", "method"),
        ("data: {scenes: {ti: none}}", "data.scenes.ti"),
        ("data: {classes: chair}", "data.classes"),
        ("data: {mean: .nan}", "data.mean"),
        ("federation: {deadline_seconds: .inf}", "federation.deadline_seconds"),
        ("1: 2", "1"),
    ],
)
def test_a_wrong_value_names_its_key(tmp_path: Path, text: str, key: str) -> None:
    path = _file(tmp_path, text)
    with pytest.raises(ConfigError, match=f"key '{key}'") as caught:
        load_experiment(path)
    assert caught.value.where == str(path)
    assert caught.value.remedy


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"seed: [1", "not valid YAML"),
        (b"seed: \xff\xfe", "not valid YAML"),
        (b"[" * 5000, "nested too deeply"),
        (b"a: !!python/object/apply:os.getcwd []", "not valid YAML"),
        (b"- seed\n- 1", "expected keys and values, found list"),
        (b"seed", "expected keys and values, found str"),
        (b"3", "expected keys and values, found int"),
    ],
)
def test_a_file_that_is_no_mapping_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "experiment.yaml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=message) as caught:
        load_experiment(path)
    assert caught.value.where == str(path)


@pytest.mark.parametrize("name", ["missing.yaml", "."])
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="cannot read it") as caught:
        load_experiment(tmp_path / name)
    assert caught.value.where == str(tmp_path / name)
    assert caught.value.remedy


def test_overrides_reach_every_depth_and_keep_the_rest(tmp_path: Path) -> None:
    path = _file(tmp_path, "seed: 5\nmethod: {lr: 0.5}")
    experiment = load_experiment(path, {"seed": 1, "method.name": "shot", "data.scenes.ti": 7})
    assert (experiment.seed, experiment.method.name, experiment.method.lr) == (1, "shot", 0.5)
    assert experiment.data.scenes.ti == 7
    assert load_experiment(path).seed == 5


@pytest.mark.parametrize(
    ("text", "override", "key"),
    [
        ("", "method.nam", "method.nam"),
        ("", "nothing.here", "nothing"),
        ("", "seed.deeper", "seed"),
        ("seed: 3", "seed.deeper", "seed"),
        ("method:", "method.name", "method"),
        ("method: [1]", "method.name", "method"),
    ],
)
def test_an_override_of_what_is_not_there_is_refused(tmp_path: Path, text: str, override: str, key: str) -> None:
    with pytest.raises(ConfigError, match=f"key '{key}'"):
        load_experiment(_file(tmp_path, text), {override: "shot"})


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"seed": 2**40, "device": "cuda:1", "method": {"lr": 0.1 + 0.2, "refresh_every": 3}},
        {"data": {"kind": "folder", "root": "/a b", "classes": ["chair", "Tür"], "full_scale": 1e4, "ti_classes": []}},
        {"federation": {"bn_policy": "pooled", "deadline_seconds": 1e-9}, "threads": 2},
    ],
)
def test_json_round_trip_is_the_same_experiment(values: dict[str, Any]) -> None:
    experiment = parse_experiment(values, where="test")
    again = parse_experiment_json(experiment.model_dump_json(), where="message")
    assert again == experiment
    assert again.digest() == experiment.digest()


def test_digest_tells_experiments_apart() -> None:
    digests = {parse_experiment({"method": {"lr": lr}}, where="test").digest() for lr in (0.1, 0.1 + 1e-15, 0.2)}
    assert len(digests) == 3
    assert parse_experiment({"seed": 0}, where="test").digest() == Experiment().digest()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"seed": "1"}', "seed"),
        ('{"sed": 1}', "unknown key 'sed'"),
        ("{", "JSON"),
        ('{"data": {"mean": NaN}}', "mean"),
    ],
)
def test_json_from_elsewhere_is_checked(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        parse_experiment_json(text, where="message")
    assert caught.value.where == "message"


def test_experiments_cannot_be_changed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        setattr(Experiment(), "seed", 1)  # noqa: B010 (plain assignment does not pass the type checker)


def test_a_relative_data_root_is_found_from_the_file_and_not_from_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "experiments"
    folder.mkdir()
    (folder / "e.yaml").write_text("data: {kind: folder, root: ../images, classes: [a, b]}")
    monkeypatch.chdir(tmp_path)
    assert load_experiment(Path("experiments/e.yaml")).data.root == str(tmp_path / "images")


def test_a_quorum_that_cannot_be_reached_is_refused() -> None:
    with pytest.raises(ConfigError, match="quorum 9 is more than sites 4"):
        parse_experiment({"federation": {"sites": 4, "quorum": 9}}, where="test")


def test_waiting_and_testing_may_change_between_a_run_and_its_resumption() -> None:
    base = parse_experiment({}, where="test").digest()
    operational = {"device": "cpu", "federation": {"quorum": 1, "deadline_seconds": 5.0, "evaluate_every": 0}}
    assert parse_experiment(operational, where="test").digest() == base
    assert parse_experiment({"federation": {"rounds": 6}}, where="test").digest() != base
