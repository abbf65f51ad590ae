"""The check of generated code names each file that is out of date, missing or left over."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path

import pytest


def test_generated_code_is_checked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = Path(__file__).parents[2]
    spec = importlib.util.spec_from_file_location("gen_protos", root / "scripts" / "gen_protos.py")
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    protos = tmp_path / "protos"
    protos.mkdir()
    for name in ("release.proto", "release_pb2.py", "release_pb2.pyi"):
        shutil.copy(root / "protos" / name, protos)
    check = ["--root", str(tmp_path), "--check"]
    assert script.main(check) == 0
    (protos / "release_pb2.py").write_text("# edited by hand\n")
    (protos / "release_pb2.pyi").unlink()
    (protos / "old_pb2.py").write_text("")
    assert script.main(check) == 1
    message = capsys.readouterr().err
    assert "release_pb2.py: out of date" in message
    assert "release_pb2.pyi: missing" in message
    assert "old_pb2.py: no .proto file" in message
    assert "run python scripts/gen_protos.py" in message
    assert script.main(["--root", str(tmp_path)]) == 0
    assert script.main(check) == 0
    assert not (protos / "old_pb2.py").exists()
    (protos / "release.proto").write_text("nonsense")
    assert script.main(check) == 1
    assert "protoc refused" in capsys.readouterr().err
