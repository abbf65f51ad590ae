"""No command of a page escapes: blocks in lists, fences, continued lines, pipes, variables."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.docs import markdown
from tests.docs.markdown import blocks, commands, mentions

PAGE = """# Title

Type `make demo` or `socket-owner
watch RUN`; not `socket.yaml`.

    socket-owner train --out "a b" \\
        --seed 1   # why
    .venv/bin/socket-site audit site.yaml | sudo tee x && make test

- A list, with a file `new.yaml`:

      name: x

      further: y

```sh
go="socket-owner compare --seeds 0"
$go --out runs
```
"""


@pytest.fixture
def page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(markdown, "ROOT", tmp_path)
    path = tmp_path / "page.md"
    path.write_text(PAGE)
    return path


def test_blocks_are_found_with_what_stands_above(page: Path) -> None:
    first, second, third = blocks(page)
    assert (first.line, first.is_shell) == (6, True)
    assert (second.text, second.is_shell, second.above) == (
        "name: x\n\nfurther: y",
        False,
        "- A list, with a file `new.yaml`:",
    )
    assert (third.line, third.language, third.is_shell) == (17, "sh", True)


def test_commands_are_split_into_words(page: Path) -> None:
    first, _, third = blocks(page)
    assert list(commands(first)) == [
        ["socket-owner", "train", "--out", "a b", "--seed", "1"],
        ["socket-site", "audit", "site.yaml"],
        ["sudo", "tee", "x"],
        ["make", "test"],
    ]
    assert list(commands(third)) == [["socket-owner", "compare", "--seeds", "0", "--out", "runs"]]


def test_commands_in_running_text_are_seen(page: Path) -> None:
    assert mentions(page) == [["make", "demo"], ["socket-owner", "watch", "RUN"]]
