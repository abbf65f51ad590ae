"""The experiments that come with the product: each can be read, and each folder is a table of its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from server.variants import load_variants
from socket_core.config import load_experiment

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
FILES = sorted(CONFIGS.rglob("*.yaml"))


def test_there_are_experiments() -> None:
    assert len(FILES) > 20


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(CONFIGS)))
def test_every_experiment_can_be_read(path: Path) -> None:
    # A row is called by the name and found by the file: they are the same word.
    assert load_experiment(path).name == path.stem


@pytest.mark.parametrize("folder", ["ablations", "drift", "other-domain", "privacy", "privacy-sites", "wire"])
def test_every_file_of_a_folder_is_a_variant_of_the_demo_and_no_two_are_alike(folder: str) -> None:
    base = load_experiment(CONFIGS / "demo.yaml")
    variants = load_variants([CONFIGS / folder], base)
    assert [v.name for v in variants] == [path.stem for path in FILES if path.parent.name == folder]
    assert len({v.model_copy(update={"name": "x"}).digest() for v in variants}) == len(variants)
