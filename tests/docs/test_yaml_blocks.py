"""YAML in pages has the keys of the files that it shows, and no others."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from client.site_file import SiteFile
from socket_core.config import Experiment
from tests.docs.markdown import PAGES, Block, blocks

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts"))

import key_reference

EXPERIMENT = {key for key, _ in key_reference.keys(Experiment)} | {"extends"}
SHOWN = tuple(
    one["begins"]
    for one in yaml.safe_load((Path(__file__).parent / "commands.yaml").read_text(encoding="utf-8"))["shown"]
)
SITE = {key for key, _ in key_reference.keys(SiteFile)}


def yaml_blocks() -> list[tuple[Block, dict[str, Any]]]:
    found = []
    for page in PAGES:
        for block in blocks(page):
            try:
                value = None if block.is_shell else yaml.safe_load(block.text)
            except yaml.YAMLError:
                value = None
            if isinstance(value, dict) and not block.text.startswith(SHOWN):
                found.append((block, value))
    return found


def keys_of(section: dict[str, Any], prefix: str = "") -> Iterator[str]:
    """Dotted keys of the values, as :func:`key_reference.keys` writes them."""
    for key, value in section.items():
        if isinstance(value, dict):
            yield from keys_of(value, f"{prefix}{key}.")
        else:
            yield prefix + str(key)


def unknown(section: dict[str, Any]) -> set[str]:
    """Keys that neither kind of file has, whichever kind the section fits better."""
    keys = set(keys_of(section))
    return min(keys - EXPERIMENT, keys - SITE, key=len)


@pytest.mark.parametrize(
    ("block", "section"), yaml_blocks(), ids=[f"{block.page}-{block.line}" for block, _ in yaml_blocks()]
)
def test_each_key_exists(block: Block, section: dict[str, Any]) -> None:
    assert unknown(section) == set()


def test_there_are_blocks_and_wrong_keys_are_seen() -> None:
    assert len(yaml_blocks()) >= 12
    assert unknown({"data": {"kind": "folder", "rood": "x"}}) == {"data.rood"}
    assert unknown({"policy": {"privacy": {"epsilon": 3.0}}, "tr": "x"}) == set()
    assert unknown({"tr": "x", "data": {"kind": "folder"}}) != set()  # two files in one block
