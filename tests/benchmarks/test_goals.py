"""Goals name figures that the committed results hold: a misspelt one would never be missed."""

from __future__ import annotations

import json
from pathlib import Path

from benchmarks.goals import GOALS
from benchmarks.parts import PARTS
from benchmarks.subjects import RESNET50

ROOT = Path(__file__).resolve().parents[2]


def test_goals_name_figures_that_are_measured() -> None:
    content = json.loads((ROOT / "docs" / "results" / "performance.json").read_text())
    measured = {name for name, part in content["parts"].items() if part["figures"] and not part["facts"]["quick"]}
    missing = [g for g in GOALS if g.part in measured and g.figure(content["parts"]) is None]
    assert missing == []
    assert {g.part for g in GOALS} <= set(PARTS)
    (on_gpu,) = [g for g in GOALS if g.part == "gpu"]
    assert on_gpu.name == f"{RESNET50}: SOCKET, bfloat16, channels last"
