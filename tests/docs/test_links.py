"""Links between pages lead somewhere, and every page is in the index."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.docs.markdown import PAGES, ROOT, anchors, links


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_links_within_the_repository_lead_somewhere(page: Path) -> None:
    wrong = []
    for link in links(page):
        if link.startswith(("http://", "https://")):
            continue
        target, _, anchor = link.partition("#")
        file = (page.parent / target).resolve() if target else page
        if not file.exists() or (anchor and anchor not in anchors(file)):
            wrong.append(link)
    assert wrong == []


def test_the_index_leads_to_every_page() -> None:
    index = ROOT / "docs" / "README.md"
    listed = {(index.parent / link).resolve() for link in links(index)}
    pages = {path for path in (ROOT / "docs").rglob("*.md") if "adr" not in path.parts and path != index}
    assert pages - listed == set()


def test_a_wrong_link_and_a_wrong_anchor_are_seen(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# A `b` heading, here\n\n[x](none.md) [y](page.md#nowhere) ![z](img.png)\n\n    [code](no.md)\n")
    assert links(page) == ["none.md", "page.md#nowhere", "img.png"]
    assert anchors(page) == {"a-b-heading-here"}
