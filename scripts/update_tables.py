"""Put the tables of committed results files into README and docs, or check that they are there unchanged.

A table stands between ``<!-- table: docs/results/NAME.json -->`` and ``<!-- /table -->``; figures in prose do not
exist outside such a block.

Usage::

    python scripts/update_tables.py            # rewrite the blocks
    python scripts/update_tables.py --check    # exit 1 if a block differs from its results file
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import membership_study

from server import report
from server.results import Row, read_results

ROOT = Path(__file__).resolve().parent.parent
BLOCK = re.compile(r"(<!-- table: (?P<path>\S+) -->\n).*?(<!-- /table -->)", re.DOTALL)


def block(path: Path) -> str:
    """The Markdown of one results file: the table, then what stands behind it."""
    content = json.loads(path.read_text(encoding="utf-8"))
    if content.get("kind") == "membership":
        return membership_study.markdown(content)
    rows, facts = read_results(path)
    lines = [f"- {note}" for note in report.gap_closed(rows)]
    return f"{report.markdown(rows)}\n" + "\n".join(lines) + f"\n\n{_footing(rows, facts)}\n"


def _footing(rows: Sequence[Row], facts: dict[str, Any]) -> str:
    seeds = sorted({row.seed for row in rows})
    packages = ", ".join(f"{name} {version}" for name, version in facts["packages"].items() if name != "socket-fl")
    return (
        f"`{facts['command']}`; seeds {', '.join(map(str, seeds))}; {facts['cpus']} cores, {facts['device']}; "
        f"{packages}."
    )


def updated(text: str, root: Path) -> str:
    """A document with all its blocks current."""
    return BLOCK.sub(lambda m: f"{m[1]}\n{block(root / m['path'])}\n{m[3]}", text)


def main(argv: Sequence[str] | None = None) -> int:
    """Update or check; returns the exit status."""
    parser = argparse.ArgumentParser(description="Put results into README and docs.")
    parser.add_argument("--check", action="store_true", help="change nothing; exit 1 if a table is not current")
    args = parser.parse_args(argv)
    stale = []
    for path in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]:
        text = path.read_text(encoding="utf-8")
        if (fresh := updated(text, ROOT)) != text:
            stale.append(path.relative_to(ROOT))
            if not args.check:
                path.write_text(fresh, encoding="utf-8")
    for name in stale:
        print(f"{name}: {'not current, run scripts/update_tables.py' if args.check else 'updated'}")
    return 1 if args.check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
