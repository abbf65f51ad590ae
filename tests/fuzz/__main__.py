"""``python -m tests.fuzz --inputs 100000 [--seed 0] [--keep DIR]``: fuzzes every decoder; ``make fuzz``."""

from __future__ import annotations

import argparse
import hashlib
import sys
import tempfile
import time
import warnings
from pathlib import Path

from tests.fuzz.run import shares, try_target
from tests.fuzz.samples import Samples
from tests.fuzz.targets import targets


def main() -> int:
    """Prints a line for each decoder; 1 if anything but a documented error came out."""
    parser = argparse.ArgumentParser(description="Damaged input for every decoder.")
    parser.add_argument("--inputs", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="part of a decoder's name")
    parser.add_argument("--keep", type=Path, default=Path("runs/fuzz"), help="findings are written here")
    options = parser.parse_args()
    warnings.simplefilter("ignore")  # of libraries about broken images
    started, total, found = time.monotonic(), 0, 0
    with tempfile.TemporaryDirectory() as folder:
        chosen = [target for target in targets(Samples(Path(folder))) if options.only in target.name]
        for target in chosen:
            outcome = try_target(target, shares(chosen, options.inputs)[target.name], options.seed)
            total, found = total + outcome.inputs, found + len(outcome.findings)
            refused = ", ".join(f"{count} {name}" for name, count in sorted(outcome.refused.items()))
            print(
                f"{target.name:26} {outcome.inputs:7} inputs: {outcome.accepted} taken, {refused or 'none refused'}, "
                f"{len(outcome.findings)} findings; slowest {outcome.slowest:.2f} s",
                flush=True,
            )
            for _what, data in outcome.findings:
                options.keep.mkdir(parents=True, exist_ok=True)
                path = options.keep / f"{target.name.replace(' ', '-')}-{hashlib.sha256(data).hexdigest()[:12]}"
                path.write_bytes(data)
            for what in sorted({what for what, _ in outcome.findings})[:5]:
                print(f"    {what}")
    print(f"{total} inputs in {time.monotonic() - started:.0f} s, seed {options.seed}: {found} findings")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
