"""``socket-site check --data``: the report, its exit codes, and the check of a site beside it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from client.cli import app
from socket_core.errors import ConfigError, DataError
from tests.core.disk_builders import LISTS, diml, epfl, grey, listed, millimetres, sun


def _check(*words: object) -> tuple[str, Exception | None]:
    """Standard output, and the error that ends the command."""
    result = CliRunner().invoke(app, ["check", *map(str, words)])
    if result.exception is None or isinstance(result.exception, SystemExit):
        assert result.exit_code == 0, result.stderr
        return result.stdout, None
    assert isinstance(result.exception, Exception)
    return result.stdout, result.exception


def _config(folder: Path, **data: Any) -> Path:
    path = folder / "experiment.yaml"
    path.write_text(yaml.safe_dump({"data": data}))
    return path


def _sun_config(folder: Path) -> Path:
    return _config(folder, kind="sunrgbd", classes=["office", "kitchen"])


def test_a_sound_data_set_is_counted(tmp_path: Path) -> None:
    root = sun(tmp_path / "SUNRGBD")
    out, error = _check("--data", root, "--config", _sun_config(tmp_path), "--json")
    assert error is None
    report = json.loads(out)
    assert report["classes"]["office"]["train"] == {"rgb": 12, "target": 12, "pairs": 12}
    assert (report["pairs"], report["bits"], report["unpaired"], report["skipped"]) == (32, 16, 0, [])
    assert report["sensors"] == {"kv1": 16, "kv2": 16, "realsense": 16, "xtion": 16}
    text, _ = _check("--data", root, "--config", _sun_config(tmp_path))
    assert "gym                          other train" in text
    assert "sensor realsense         16 views" in text


def test_broken_files_are_listed_and_are_an_error_unless_skipped(tmp_path: Path) -> None:
    root = sun(tmp_path / "SUNRGBD")
    broken = root / "kv1/NYUdata/NYU0009/depth_bfx/NYU0009_abs.png"
    grey(broken, millimetres(1500))
    config = _sun_config(tmp_path)
    out, error = _check("--data", root, "--config", config)
    assert isinstance(error, DataError)
    assert error.exit_code == 3
    assert str(broken) in str(error)
    assert "--skip-broken" in error.remedy
    assert f"  {broken}: expected depth whose bits are rotated" in out
    out, error = _check("--data", root, "--config", config, "--skip-broken", "--json")
    assert error is None
    report = json.loads(out)
    assert [Path(item["file"]).name for item in report["skipped"]] == ["NYU0009_abs.png", "NYU0009.jpg"]
    assert report["pairs"] == 31


def test_the_published_task_is_checked_without_a_config(tmp_path: Path) -> None:
    out, error = _check("--data", sun(tmp_path / "SUNRGBD", per_class=2), "--kind", "sunrgbd", "--json")
    assert isinstance(error, DataError)
    assert "bathroom, classroom, computer_room" in str(error)
    assert set(json.loads(out)["lacking"]).isdisjoint({"office", "kitchen"})


@pytest.mark.parametrize("kind", ["diml", "epfl_nir", "folder"])
def test_other_layouts_need_no_classes(tmp_path: Path, kind: str) -> None:
    root = tmp_path / "set"
    if kind == "diml":
        diml(root)
    elif kind == "epfl_nir":
        epfl(root)
    else:
        for split in ("train", "test"):
            for part in ("rgb", "depth"):
                grey(root / split / part / "a" / "0.png", millimetres(1).astype("uint8"))
    out, error = _check("--data", root, "--kind", kind, "--json")
    assert error is None
    report = json.loads(out)
    assert report["pairs"] == {"diml": 12, "epfl_nir": 12, "folder": 2}[kind]
    assert report["bits"] == (16 if kind == "diml" else 8)


def test_lists_come_from_the_config(tmp_path: Path) -> None:
    root = listed(tmp_path / "set")
    config = _config(tmp_path, kind="lists", classes=["b", "a"], lists=LISTS)
    (root / "ti/rgb/1.png").unlink()
    out, error = _check("--data", root, "--config", config, "--skip-broken", "--json")
    assert error is None
    report = json.loads(out)
    assert (report["pairs"], report["unpaired"]) == (2, 16)
    assert "line 2" in report["skipped"][0]["reason"]
    _, error = _check("--data", root, "--config", config)
    assert isinstance(error, DataError)


def test_images_of_the_task_need_no_partner_but_pairs_do(tmp_path: Path) -> None:
    root = tmp_path / "set"
    for split in ("train", "test"):
        for label in ("task", "other"):
            for part in ("rgb", "depth"):
                grey(root / split / part / label / "0.png", millimetres(1).astype("uint8"))
            grey(root / split / "rgb" / label / "1.png", millimetres(1).astype("uint8"))
    out, error = _check("--data", root, "--config", _config(tmp_path, kind="folder", classes=["task"]), "--json")
    assert isinstance(error, DataError)
    assert [item["file"] for item in json.loads(out)["skipped"]] == [
        str(root / split / "rgb/other/1.png") for split in ("train", "test")
    ]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "expected either a site file"),
        (("site.yaml",), "expected either a site file"),
        (("site.yaml", "--config", "e.yaml", "--data", "."), "expected either a site file"),
        (("site.yaml", "--config", "e.yaml", "--skip-broken"), "go with --data alone"),
        (("--data", "."), "expected the layout of the data set"),
        (("--data", ".", "--kind", "sunrgb"), r"data\.kind"),
        (("--data", ".", "--kind", "diml", "--modality", "nir"), "set modality: depth"),
    ],
)
def test_words_that_do_not_fit_are_refused(words: tuple[str, ...], message: str) -> None:
    _, error = _check(*words)
    assert error is not None
    with pytest.raises(ConfigError, match=message):
        raise error
