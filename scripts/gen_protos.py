"""Regenerate the Python code of every ``protos/*.proto``, or check that what is committed is up to date.

Usage::

    python scripts/gen_protos.py            # rewrite protos/*_pb2.py and protos/*_pb2.pyi
    python scripts/gen_protos.py --check    # exit 1 if they differ from what would be generated
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PATTERNS = ("*_pb2.py", "*_pb2.pyi")
# protoc writes bare Mapping types, which a strict mypy refuses wherever the stubs are imported.
STUB_HEADER = b'# mypy: disable-error-code="type-arg"\n'


def generate(root: Path, out: Path) -> None:
    """Run protoc from ``root`` so that the modules import as ``protos.NAME_pb2``.

    Raises:
        RuntimeError: If there is nothing to generate or protoc refuses a file.
    """
    sources = sorted(path.relative_to(root).as_posix() for path in (root / "protos").glob("*.proto"))
    if not sources:
        raise RuntimeError(f"no .proto file in {root / 'protos'}")
    command = [sys.executable, "-m", "grpc_tools.protoc", "-I.", f"--python_out={out}", f"--pyi_out={out}", *sources]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"protoc refused the sources:\n{done.stderr.strip()}")
    for stub in (out / "protos").glob("*_pb2.pyi"):
        stub.write_bytes(STUB_HEADER + stub.read_bytes())


def generated_files(folder: Path) -> dict[str, bytes]:
    """Generated modules in ``folder`` and their contents, by name."""
    return {path.name: path.read_bytes() for pattern in PATTERNS for path in sorted(folder.glob(pattern))}


def differences(committed: dict[str, bytes], fresh: dict[str, bytes]) -> list[str]:
    """One line for each generated file that is missing, out of date, or without a ``.proto`` file."""
    lines = []
    for name in sorted(committed.keys() | fresh.keys()):
        if name not in committed:
            lines.append(f"protos/{name}: missing")
        elif name not in fresh:
            lines.append(f"protos/{name}: no .proto file generates it")
        elif committed[name] != fresh[name]:
            lines.append(f"protos/{name}: out of date")
    return lines


def main(argv: Sequence[str] | None = None) -> int:
    """Regenerate or check; returns the exit status."""
    parser = argparse.ArgumentParser(description="Regenerate the Python code of protos/*.proto.")
    parser.add_argument("--check", action="store_true", help="change nothing; exit 1 if the generated code is stale")
    parser.add_argument("--root", type=Path, default=ROOT, help="folder that holds protos/ (default: the repository)")
    args = parser.parse_args(argv)
    root: Path = args.root.resolve()
    with tempfile.TemporaryDirectory() as temp:
        try:
            generate(root, Path(temp))
        except RuntimeError as error:
            print(error, file=sys.stderr)
            return 1
        fresh = generated_files(Path(temp) / "protos")
    stale = differences(generated_files(root / "protos"), fresh)
    if args.check:
        if stale:
            tools = version("grpcio-tools")
            print("Generated code differs from the .proto files:", *stale, sep="\n  ", file=sys.stderr)
            print(f"What to do: run python scripts/gen_protos.py (grpcio-tools {tools} here)", file=sys.stderr)
        return 1 if stale else 0
    # Only what changed is written, and leftovers of removed .proto files go.
    for line in stale:
        name = line.removeprefix("protos/").partition(":")[0]
        if name in fresh:
            (root / "protos" / name).write_bytes(fresh[name])
        else:
            (root / "protos" / name).unlink()
        print(f"protos/{name}: {'written' if name in fresh else 'removed'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
