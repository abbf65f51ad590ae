"""Look at a report as a reader would: in a real browser, on a phone and a desk, light and dark.

Prints what the browser complains about, whether the page is wider than the screen, which pictures are missing, and what
it tried to load.
Screenshots go to a folder. Without Chromium it says so and ends with 3. With ``--axe FILE`` (axe-core's
``axe.min.js``, not part of this repository) it also prints what axe finds.

Usage::

    python scripts/check_report.py runs/demo/report.html --out /tmp/shots
"""

from __future__ import annotations

import argparse
import base64
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import chromium

SIZES = {"phone": (360, 800), "desk": (1280, 900)}
SCHEMES = ("light", "dark")
NO_BROWSER = 3
OVERFLOWING = """
[...document.querySelectorAll('body *')].filter(e => !e.closest('.scroll, .pictures, pre, [role=img]')
  && e.getBoundingClientRect().right > WIDTH + 1).slice(0, 5).map(e => e.tagName + '.' + e.className + '#' + e.id)
"""
AXE = """
axe.run(document, {resultTypes: ['violations', 'incomplete']}).then(r => ({passes: r.passes.length,
  violations: r.violations.map(v => v.id + ' (' + v.impact + '): '
    + v.nodes.length + ' x ' + v.nodes[0].html.slice(0, 120)),
  incomplete: r.incomplete.map(v => v.id + ': ' + v.nodes.length + ' x ' + v.nodes[0].html.slice(0, 120))}))
"""
MISSING = "[...document.images].filter(i => !i.complete || !i.naturalWidth).map(i => i.alt)"
DRAWN = "new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => done(0))))"
"""Else a busy machine takes the picture at the height that the page had before."""


def main(argv: Sequence[str] | None = None) -> int:
    """Check one file; returns the exit status: 0 fine, 1 something was found, 3 no browser."""
    parser = argparse.ArgumentParser(description="Check a report in a real browser.")
    parser.add_argument("file", type=Path)
    parser.add_argument("--out", type=Path, help="folder of the screenshots; default: beside the file")
    parser.add_argument("--axe", type=Path, help="axe.min.js, to check accessibility with")
    parser.add_argument("--wait", type=float, default=60, help="seconds for each answer; more on a busy machine")
    args = parser.parse_args(argv)
    if (program := chromium.installed()) is None:
        print("no Chromium is installed (Debian: apt-get install chromium): nothing was checked")
        return NO_BROWSER
    out = args.out or args.file.parent
    out.mkdir(parents=True, exist_ok=True)
    axe = args.axe.read_text(encoding="utf-8") if args.axe else ""
    found = 0
    with chromium.open_browser(program, args.wait) as browser:
        for size in SIZES:
            for scheme in SCHEMES:
                found += _look(browser, args.file.resolve(), size, scheme, out, axe)
        (out / f"{args.file.stem}-print.pdf").write_bytes(_decoded(browser.call("Page.printToPDF")))
    print(f"screenshots and the printed page are in {out}")
    return 1 if found else 0


def _look(browser: chromium.Browser, file: Path, size: str, scheme: str, out: Path, axe: str) -> int:
    """Prints and counts what is wrong at one size in one scheme."""
    width, height = SIZES[size]
    browser.call(
        "Emulation.setDeviceMetricsOverride",
        width=width,
        height=height,
        deviceScaleFactor=1,
        mobile=size == "phone",
    )
    browser.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
    browser.events.clear()
    browser.call("Page.navigate", url=file.as_uri())
    browser.wait("Page.loadEventFired")
    browser.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
    # Not innerWidth, which on a phone grows with what is too wide.
    wide = browser.evaluate("document.documentElement.scrollWidth")
    wrong = [
        f"wider than the screen: {wide} > {width}, {browser.evaluate(OVERFLOWING.replace('WIDTH', str(width)))}"
    ] * (wide > width)
    wrong += [f"no picture: {alt}" for alt in browser.evaluate(MISSING)]
    wrong += [line for event in browser.events if (line := _complaint(*event))]
    if axe:
        browser.evaluate(axe + "\n;0")
        checked = browser.evaluate(AXE)
        wrong += [f"axe: {line}" for line in checked["violations"]]
        print(f"  axe, {size}, {scheme}: {checked['passes']} rules passed; undecided: {checked['incomplete']}")
    browser.evaluate("document.querySelectorAll('details').forEach(d => d.open = false)")
    browser.evaluate(DRAWN)
    shot = browser.call("Page.captureScreenshot", captureBeyondViewport=True)
    (out / f"{file.stem}-{size}-{scheme}.png").write_bytes(_decoded(shot))
    print(f"{file.name}, {size} ({width} x {height}), {scheme}: {'; '.join(wrong) or 'nothing wrong'}")
    return len(wrong)


def _complaint(name: str, content: dict[str, Any]) -> str:
    """What an event says is wrong; empty if nothing."""
    if name == "Log.entryAdded":
        return f"log: {content['entry']['text']}"
    if name == "Runtime.exceptionThrown":
        return f"exception: {content['exceptionDetails']['text']}"
    if name == "Runtime.consoleAPICalled":
        return f"console: {[a.get('value') for a in content['args']]}"
    if name == "Network.requestWillBeSent":
        url = str(content["request"]["url"])
        return "" if url.startswith(("file:", "data:")) else f"asks the network: {url}"
    return ""


def _decoded(answer: dict[str, Any]) -> bytes:
    return base64.b64decode(answer["data"])


if __name__ == "__main__":
    sys.exit(main())
