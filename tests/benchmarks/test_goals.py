"""Goals name figures that the committed results hold: a misspelt one would never be missed."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from benchmarks.goals import GOALS
from benchmarks.parts import PARTS
from benchmarks.subjects import RESNET50

ROOT = Path(__file__).resolve().parents[2]


SENTENCES: list[tuple[str, str]] = [
    ("docs/performance.md", "With updates in float32 the server's own part stays below the goal and Flower's does not"),
    ("docs/performance.md", "With float16 or int8 both are below it together"),
    (
        "docs/adr/0020-bytes-and-memory-of-a-round.md",
        "three payloads with float32 and one and a half with float16 or int8 both ways, for 2, 8 and 32 sites alike",
    ),
]


@pytest.mark.parametrize(("page", "sentence"), SENTENCES)
def test_what_is_said_of_the_servers_memory_follows_from_the_results(page: str, sentence: str) -> None:
    assert sentence in re.sub(r"\s+", " ", (ROOT / page).read_text(encoding="utf-8"))


def test_the_results_say_that_of_the_servers_memory() -> None:
    parts = json.loads((ROOT / "docs" / "results" / "performance.json").read_text())["parts"]
    found = {g.text.split(": ")[1]: list[float]() for g in GOALS if g.part == "memory"}
    for goal in (g for g in GOALS if g.part == "memory"):
        figure = goal.figure(parts)
        assert figure is not None
        assert goal.met(figure["value"]) == (not goal.text.endswith("float32"))
        found[goal.text.split(": ")[1]].append(figure["value"])
    halves = {text: {round(2 * value) / 2 for value in values} for text, values in found.items()}
    assert [len(values) for values in found.values()] == [3] * 4
    del halves["float32, but for Flower's own copies"]
    assert halves == {"float32": {3.0}, "float16 both ways": {1.5}, "int8 both ways": {1.5}}


def test_goals_name_figures_that_are_measured() -> None:
    content = json.loads((ROOT / "docs" / "results" / "performance.json").read_text())
    measured = {name for name, part in content["parts"].items() if part["figures"] and not part["facts"]["quick"]}
    missing = [g for g in GOALS if g.part in measured and g.figure(content["parts"]) is None]
    assert missing == []
    assert {g.part for g in GOALS} <= set(PARTS)
    (on_gpu,) = [g for g in GOALS if g.part == "gpu"]
    assert on_gpu.name == f"{RESNET50}: SOCKET, bfloat16, channels last"
