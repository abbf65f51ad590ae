"""The check in a browser says what it could not do, and what it heard."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts"))

import check_report
import chromium


def test_without_a_browser_it_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(chromium, "installed", lambda: None)
    assert check_report.main([str(tmp_path / "report.html")]) == check_report.NO_BROWSER
    assert "nothing was checked" in capsys.readouterr().out


def test_what_a_page_loads_from_elsewhere_is_a_complaint_and_its_own_data_is_none() -> None:
    def asked(url: str) -> str:
        return check_report._complaint("Network.requestWillBeSent", {"request": {"url": url}})

    assert asked("https://example.org/x") == "asks the network: https://example.org/x"
    assert (asked("file:///x"), asked("data:image/png;base64,")) == ("", "")
    assert check_report._complaint("Log.entryAdded", {"entry": {"text": "t"}}) == "log: t"
    assert check_report._complaint("Page.loadEventFired", {}) == ""
