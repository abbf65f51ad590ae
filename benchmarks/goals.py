"""The goals that speed, size and scale are held to, each met or missed by one figure. Set before they were measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Goal:
    """A figure and the most that it may be.

    Attributes:
        text: What is asked for.
        limit: In the figure's unit.
        part: Part of the benchmarks.
        name: Of the figure.
        of: What it is over.
        least: Whether ``limit`` is the least instead.
        was: Name of the same figure in results from before the work on it, where that was another.
    """

    text: str
    limit: float
    part: str
    name: str
    of: str = ""
    least: bool = False
    was: str = ""

    def figure(self, parts: Mapping[str, Any]) -> dict[str, Any] | None:
        """The figure in the parts of a results file; None if it was not measured."""
        figures = parts.get(self.part, {}).get("figures", [])
        return next((f for f in figures if (f["name"], f["of"]) in ((self.name, self.of), (self.was, self.of))), None)

    def met(self, value: float) -> bool:
        """Whether a value is good enough, as it is: no allowance for noise."""
        return value >= self.limit if self.least else value <= self.limit


def _steps() -> list[Goal]:
    text = "SOCKET step over bare forward and backward, same memory format"
    cpu = [
        Goal(f"{text}: {subject}, {layout}", 1.05, "step", f"{subject}: SOCKET, {layout}", f"bound, {layout}")
        for subject in ("tiny 48 px", "resnet18 96 px")
        for layout in ("NCHW", "channels last")
    ]
    name, over = "SOCKET, bfloat16, channels last", "bound, bfloat16, channels last"
    return [*cpu, Goal(f"{text}: GPU, resnet50 224 px, bfloat16", 1.10, "gpu", f"resnet50 224 px: {name}", over)]


def _bytes(what: str, limit: float, way: str) -> list[Goal]:
    return [
        Goal(f"bytes of a site's round over float32 {over}: {what}", limit, "wire", f"resnet50, {way}", over)
        for over in ("state both ways", "state with source both ways")
    ]


GOALS: tuple[Goal, ...] = (
    *_steps(),
    Goal(
        "channels-last step over the NCHW bound", 0.95, "step", "resnet18 96 px: SOCKET, channels last", "bound, NCHW"
    ),
    Goal("data in a ResNet-18 step, %", 2.0, "data", "resnet18 96 px: data", "step with its data"),
    Goal("refresh and evaluation in an epoch, %", 15.0, "refresh", "resnet18 96 px: refresh and evaluation", "epoch"),
    *_bytes("int8 up and down", 0.25, "int8 up, int8 down"),
    *_bytes("float16 up and down", 0.5, "float16 up, float16 down"),
    *(
        Goal(
            f"server's peak, ResNet-50, {n} sites, payloads: {text}",
            2.1,
            "memory",
            f"resnet50, {dtype} both ways, {n} sites: {what}",
            "baseline",
            was=f"resnet50 float32, {n} sites: peak" if what == "but for Flower" else "",
        )
        for dtype, what, text in (
            ("float32", "but for Flower", "float32, but for Flower's own copies"),
            ("float32", "peak", "float32"),
            ("float16", "peak", "float16 both ways"),
            ("int8", "peak", "int8 both ways"),
        )
        for n in (2, 8, 32)
    ),
    Goal("aggregation, ResNet-50, seconds an update", 0.1, "aggregate", "resnet50, ours: each update"),
    Goal(
        "federation in process over the same local steps",
        1.05,
        "rounds",
        "tiny, 4 sites, 40 steps: federation",
        "steps alone",
    ),
    Goal("200 sites, 3 rounds: answers over questions", 1.0, "sites", "200 sites: answers", "asked", least=True),
    Goal("time over sites: power", 1.05, "sites", "time: power of the number of sites"),
    Goal("memory for each further site, MB", 0.1, "sites", "memory: each further site"),
    *(
        Goal(
            f"DP step over plain TI step, {net}, all layers: {what}",
            limit,
            "dp_step",
            f"{net}, all: {what}",
            "plain TI step",
        )
        for net in ("tiny", "resnet18")
        for what, limit in (("time", 2.0), ("memory", 1.5))
    ),
)
