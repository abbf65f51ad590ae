"""What a soak reported (``make soak``), as Markdown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def markdown(content: Mapping[str, Any]) -> str:
    """Sentences on rounds, faults and leftovers, and a table of memory by process.

    Args:
        content: The report of ``python -m tests.soak``, with where it ran.
    """
    settings, failed = content["settings"], [site for site, checks in content["failed_checks"].items() if checks]
    whole = content["complete"] and content["rounds"]
    left = content["processes_gone"] and content["ports_closed"]
    faults = ", ".join(f"{name} {count}" for name, count in sorted(content["faults"].items(), key=lambda f: -f[1]))
    lines = [
        f"{settings['sites']} sites, {settings['rounds']} rounds, {content['minutes']:.0f} minutes: "
        f"{'all rounds are there' if whole else '**rounds are missing**'}, with at least "
        f"{content['fewest_sites_in_a_round']} sites in each; "
        f"{'**books that fail: ' + ', '.join(failed) + '**' if failed else 'the books of all sites hold'}; "
        f"{'no process and no port is left' if left else '**processes or ports are left**'}. Faults: {faults}.",
        "",
        "| process | MB a round | rounds | lives | largest, MB |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for name, seen in content["memory"].items():
        lines.append(
            f"| {name} | {seen['mb_a_round']:+.2f} | {seen['rounds']} | {seen['lives']} | {seen['largest_mb']} |"
        )
    packages = ", ".join(f"{name} {version}" for name, version in content["packages"].items())
    lines += ["", content["memory_note"], ""]
    lines.append(f"`{content['command']}`; seed {settings['seed']}; {content['machine']}; {packages}.")
    return "\n".join(lines) + "\n"
