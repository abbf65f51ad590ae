"""Colours of the page, light and dark. Lines and marks also differ in shape and dashes: colour alone says nothing."""

from __future__ import annotations

LIGHT = {
    "page": "#ffffff",
    "panel": "#f5f6f7",
    "ink": "#1a1c1e",
    "quiet": "#53585d",
    "rule": "#c9ced3",
    "link": "#0059a8",
    "warn": "#fff4d6",
    "warn-ink": "#5a3d00",
    "local": "#00714f",
    "federated": "#0059a8",
    "centralised": "#a84300",
    "unadapted": "#53585d",
    "oracle": "#8a2f78",
    "heat-0": "#ffffff",
    "heat-1": "#dce9f5",
    "heat-2": "#a9cdea",
    "heat-3": "#2a6fae",
    "heat-4": "#0b3f73",
    "heat-ink-0": "#53585d",
    "heat-ink-1": "#1a1c1e",
    "heat-ink-2": "#1a1c1e",
    "heat-ink-3": "#ffffff",
    "heat-ink-4": "#ffffff",
}
DARK = {
    "page": "#14171a",
    "panel": "#1e2226",
    "ink": "#e8eaec",
    "quiet": "#aab1b8",
    "rule": "#3d444b",
    "link": "#7cc0f5",
    "warn": "#3a2e0d",
    "warn-ink": "#ffdf8f",
    "local": "#4ccfa4",
    "federated": "#6cb8f2",
    "centralised": "#f5a35c",
    "unadapted": "#aab1b8",
    "oracle": "#e59ad4",
    "heat-0": "#14171a",
    "heat-1": "#1c344a",
    "heat-2": "#215580",
    "heat-3": "#79bdec",
    "heat-4": "#cde8fb",
    "heat-ink-0": "#aab1b8",
    "heat-ink-1": "#e8eaec",
    "heat-ink-2": "#ffffff",
    "heat-ink-3": "#0d1013",
    "heat-ink-4": "#0d1013",
}
HEAT = 5
"""Steps of the confusion's colours."""

MARKS = ("local", "federated", "centralised", "unadapted", "oracle")

READ = (
    *((ink, ground) for ink in ("ink", "quiet", "link") for ground in ("page", "panel")),
    ("warn-ink", "warn"),
    *((mark, "page") for mark in MARKS),
    *((f"heat-ink-{i}", f"heat-{i}") for i in range(HEAT)),
)
"""Which colour is read on which."""


def contrast(a: str, b: str) -> float:
    """Contrast ratio of two colours, 1 to 21 (WCAG 2.2, relative luminance of sRGB).

    Args:
        a: As ``#rrggbb``.
        b: Likewise.
    """
    high, low = sorted((_luminance(a), _luminance(b)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def _luminance(colour: str) -> float:
    channels = (int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
