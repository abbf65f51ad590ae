"""The learning code stands alone: no transport, no server, no client."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted((ROOT / "socket_core").rglob("*.py"))
FORBIDDEN = {"flwr", "grpc", "ray", "server", "client", "deploy", "scripts", "tests"}
WIRE = "protos.release_pb2"  # a release is a file format and belongs to the core; messages do not


def _imports(path: Path) -> set[str]:
    """Absolute names of all that a file imports, wherever in the file; ``from a import b`` gives ``a.b``."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def _module(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def test_imports_are_found(tmp_path: Path) -> None:
    path = tmp_path / "x.py"
    path.write_text("import a.b\ndef f():\n    from protos import release_pb2 as r\n")
    assert _imports(path) == {"a.b", "protos.release_pb2"}
    assert len(FILES) > 20


@pytest.mark.parametrize("path", FILES, ids=_module)
def test_the_core_imports_no_transport(path: Path) -> None:
    names = _imports(path)
    assert not {name for name in names if name.split(".")[0] in FORBIDDEN}
    assert all(f"{name}.".startswith(f"{WIRE}.") for name in names if name.split(".")[0] == "protos")


def test_importing_all_of_the_core_loads_no_transport() -> None:
    modules = ", ".join(_module(path) for path in FILES)
    program = f"import {modules}\nimport sys\nprint(*sorted({FORBIDDEN!r} & sys.modules.keys()))\n"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.split() == []
