"""Pages of the documentation: their commands, code blocks, links and headings."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md", "configs/README.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
]
PROGRAMS = frozenset(
    {"socket-owner", "socket-site", "make", "flwr", "python", "tensorboard", "git", "cd", "source", "export", "tar"}
    | {"sudo", "docker", "uv", "pip", "nano", "pkill"}
)
_FENCE = re.compile(r"^\s*```(\w*)")


@dataclass(frozen=True)
class Block:
    """An indented or fenced block.

    Attributes:
        page: The file, relative to the root.
        line: Of its first line, from 1.
        language: Of a fenced block; empty for indented ones.
        lines: Without their common indent.
        above: The last line of text before it.
    """

    page: str
    line: int
    language: str
    lines: tuple[str, ...]
    above: str

    @property
    def text(self) -> str:
        """All lines."""
        return "\n".join(self.lines)

    @property
    def is_shell(self) -> bool:
        """Whether it begins with a program, or with a variable for one."""
        return first_word(self.lines[0]) in PROGRAMS or bool(re.match(r'\w+="', self.lines[0]))


def first_word(line: str) -> str:
    """The program that a line calls, without its folder."""
    words = line.split()
    return words[0].removeprefix(".venv/bin/") if words else ""


def blocks(path: Path) -> list[Block]:
    """The code blocks of a page: fenced, or indented by four after an empty line (six in a list)."""
    page, found = str(path.relative_to(ROOT)), []
    lines = path.read_text(encoding="utf-8").splitlines()
    at, above, in_list = 0, "", False
    while at < len(lines):
        line = lines[at]
        if fence := _FENCE.match(line):
            end = next(i for i in range(at + 1, len(lines)) if lines[i].strip().startswith("```"))
            found.append(Block(page, at + 2, fence[1] or "none", tuple(lines[at + 1 : end]), above))
            at = end + 1
            continue
        in_list = line.lstrip().startswith(("- ", "* ")) or (in_list and (not line or line.startswith("  ")))
        indent = " " * (6 if in_list else 4)
        if line.startswith(indent) and at > 0 and not lines[at - 1].strip():
            end = at
            while end < len(lines) and (lines[end].startswith(indent) or not lines[end].strip()):
                end += 1
            body = tuple(one[len(indent) :].rstrip() for one in lines[at:end])
            while not body[-1]:
                body, end = body[:-1], end - 1
            found.append(Block(page, at + 1, "", body, above))
            at = end
            continue
        above = line or above
        at += 1
    return found


def commands(block: Block) -> Iterator[list[str]]:
    """The words of each command of a shell block; pipes and ``&&`` begin a new one, variables are put in."""
    variables: dict[str, str] = {}
    for line in block.text.replace("\\\n", " ").splitlines():
        if match := re.match(r'(\w+)="([^"]*)"$', line):
            variables[match[1]] = match[2]
            continue
        for name, value in variables.items():
            line = line.replace(f"${name}", value)
        words = shlex.split(line, comments=True)
        start = 0
        for end in [i for i, word in enumerate(words) if word in ("|", "&&")] + [len(words)]:
            if command := words[start:end]:
                yield [first_word(command[0]), *command[1:]]
            start = end + 1


def mentions(path: Path) -> list[list[str]]:
    """Commands in running text, between backticks."""
    text = re.sub(r"^( {4}|```).*$", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
    found = []
    for code in (one for paragraph in text.split("\n\n") for one in re.findall(r"`([^`]+)`", paragraph)):
        word = first_word(code)
        if word in ("socket-owner", "socket-site", "make", "flwr", "python") and "..." not in code:
            words = shlex.split(code)
            found.append([word, *words[1:]])
    return found


def links(path: Path) -> list[str]:
    """Targets of all links and images."""
    text = re.sub(r"^( {4}|```).*$", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return re.findall(r"\]\(([^)\s]+)\)", text)


def anchors(path: Path) -> set[str]:
    """What can stand behind ``#`` in a link to a page: its headings, as the usual renderers write them."""
    headings = re.findall(r"^#+ (.*)$", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
    plain = [re.sub(r"[^\w\- ]", "", re.sub(r"[`*]", "", one).lower()) for one in headings]
    return {one.strip().replace(" ", "-") for one in plain}
