"""``python -m benchmarks [PART ...] [--quick] [--rounds N] [--json FILE]``: ``make bench``.

Each part prints its table and, with ``--json``, puts its figures into the file, where those of other parts stay. All
parts together need about half an hour of one core; ``--quick`` a few minutes, with sizes too small to be quoted.
"""

from __future__ import annotations

import argparse
import logging
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from benchmarks.harness import Run, Tell
from benchmarks.parts import OPTIONAL, PARTS, part_of
from benchmarks.record import facts, keep, load
from benchmarks.table import plain


def main(argv: Sequence[str] | None = None) -> int:
    """Measures the parts asked for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=(__doc__ or "").splitlines()[0])
    known = f"{', '.join(PARTS)}; and, if named, {', '.join(OPTIONAL)}"
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"all of: {known}")
    parser.add_argument("--quick", action="store_true", help="small sizes and few rounds: a check that all runs")
    parser.add_argument("--rounds", type=int, metavar="N", help="rounds at most, on machines with other work")
    parser.add_argument("--json", type=Path, metavar="FILE", help="results file to put the figures into")
    options = parser.parse_args(argv)
    if unknown := sorted(set(options.parts) - {*PARTS, *OPTIONAL}):
        parser.error(f"unknown part {', '.join(unknown)}; known are {known}")
    torch.set_num_threads(1)
    for name in ("flwr", "socket_fl"):  # what sites say of networks with random weights is of no interest here
        logging.getLogger(name).setLevel(logging.ERROR)
    for name in options.parts or PARTS:
        started, before = time.monotonic(), load()
        part = part_of(name)(Run(_teller(name, started), options.quick, options.rounds))
        about = facts(name, quick=options.quick, most=options.rounds, load_before=before)
        print(plain(name, part, about), flush=True)
        if options.json is not None:
            keep(options.json, name, part, about)
    return 0


def _teller(name: str, started: float) -> Tell:
    """Progress with the seconds since a part began."""

    def tell(text: str) -> None:
        print(f"{name} {time.monotonic() - started:5.0f} s: {text}", file=sys.stderr, flush=True)

    return tell


if __name__ == "__main__":
    sys.exit(main())
