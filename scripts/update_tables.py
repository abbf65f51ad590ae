"""Put the tables of committed results files into README and docs, or check that they are there unchanged.

A table stands between ``<!-- table: docs/results/NAME.json -->`` and ``<!-- /table -->``. A figure in prose stands
between ``<!-- value: docs/results/NAME.json WHAT -->`` and ``<!-- /value -->``, in percent; WHAT is
``accuracy LABEL MODE`` or ``worst_site LABEL MODE``, with one decimal, or ``largest-class``, a whole number: the share
of the largest class in the held-out set. What a sentence concludes is held against the files by
``tests/docs/test_claims.py``. Of a performance file one table stands in a block,
named in a comment beside the first: ``<!-- goals -->``, or a part's name.

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
import soak_table

from server import report
from server.results import Row, read_results

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # ahead of the package of this name that Opacus installs

from benchmarks import markdown  # noqa: E402

VALUE = re.compile(r"(<!-- value: (?P<path>\S+) (?P<what>[^>]+?) -->).*?(<!-- /value -->)", re.DOTALL)
BLOCK = re.compile(
    r"(<!-- table: (?P<path>\S+) -->(?:<!-- (?P<which>\w+) -->)?\n).*?(?P<end><!-- /table -->)", re.DOTALL
)


def block(path: Path, which: str = "") -> str:
    """The Markdown of one results file: the table, then what stands behind it.

    Args:
        path: The file.
        which: Of a performance file, ``goals`` or the name of a part.
    """
    content = json.loads(path.read_text(encoding="utf-8"))
    if content.get("kind") == "performance":
        return markdown.goals(content) if which == "goals" else markdown.part(content, which)
    if content.get("kind") == "membership":
        return membership_study.markdown(content)
    if content.get("kind") == "soak":
        return soak_table.markdown(content)
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


def value(path: Path, what: str) -> str:
    """A figure of a results file, in percent: a mean over seeds, or the share of the largest class.

    Raises:
        ValueError: If the file has no such figure.
    """
    rows, _ = read_results(path)
    words = what.split()
    if words == ["largest-class"]:
        of_class = [sum(counts) for counts in rows[0].confusion]
        return f"{100 * max(of_class) / sum(of_class):.0f}"
    if len(words) == 3 and words[0] in ("accuracy", "worst_site"):
        found = [float(getattr(row, words[0])) for row in rows if [row.label, row.mode] == words[1:]]
        if found:
            return f"{100 * sum(found) / len(found):.1f}"
    raise ValueError(f"{path.name} has no {what!r}: expected accuracy or worst_site with label and mode")


def updated(text: str, root: Path) -> str:
    """A document with all its blocks and figures current."""
    text = BLOCK.sub(lambda m: f"{m[1]}\n{block(root / m['path'], m['which'] or '')}\n{m['end']}", text)
    return VALUE.sub(lambda m: f"{m[1]}{value(root / m['path'], m['what'])}{m[4]}", text)


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
