"""A site's own files: BatchNorm state by job and round, and nothing outside its folder."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from client.store import KEEP, SiteStore
from tests.server.builders import tree


def state(value: float) -> dict[str, torch.Tensor]:
    return {"bn.running_mean": torch.full((3,), value), "bn.num_batches_tracked": torch.tensor(7)}


def mean_of(found: dict[str, torch.Tensor] | None) -> float | None:
    return None if found is None else float(found["bn.running_mean"][0])


def test_a_state_is_loaded_as_it_was_saved(tmp_path: Path) -> None:
    store = SiteStore(tmp_path)
    store.save_batchnorm("job", 1, state(1.5))
    found = store.load_batchnorm("job", 1)
    assert found is not None
    assert found.keys() == state(1.5).keys()
    assert all(torch.equal(found[k], v) and found[k].dtype == v.dtype for k, v in state(1.5).items())


def test_the_newest_state_up_to_the_round_is_loaded(tmp_path: Path) -> None:
    store = SiteStore(tmp_path)
    for round_ in (1, 2, 4):
        store.save_batchnorm("job", round_, state(round_))
    assert [mean_of(store.load_batchnorm("job", r)) for r in (0, 1, 2, 3, 4, 9)] == [None, None, 2, 2, 4, 4]


def test_only_what_a_resume_can_ask_for_is_kept(tmp_path: Path) -> None:
    store = SiteStore(tmp_path)
    for round_ in range(1, 13):
        store.save_batchnorm("job", round_, state(round_))
    assert len(tree(tmp_path)) == KEEP
    assert [mean_of(store.load_batchnorm("job", r)) for r in (9, 10, 11, 12)] == [None, 10, 11, 12]


def test_jobs_do_not_see_each_other(tmp_path: Path) -> None:
    store = SiteStore(tmp_path)
    store.save_batchnorm("job-1", 1, state(1))
    assert store.load_batchnorm("job-2", 1) is None


@pytest.mark.parametrize("keep", [0, 5, 60, -1])
def test_a_truncated_state_counts_as_absent(tmp_path: Path, keep: int) -> None:
    store = SiteStore(tmp_path)
    store.save_batchnorm("job", 1, state(1))
    store.save_batchnorm("job", 2, state(2))
    path = tmp_path / "jobs" / "job" / "round-00002.safetensors"
    path.write_bytes(path.read_bytes()[:keep])
    assert mean_of(store.load_batchnorm("job", 2)) == 1


@pytest.mark.parametrize(
    "name", ["../evil", "/etc/passwd", "a/b", "a\\b", "..", ".", ".hidden", "", "a\0b", "a\n", "é", "x" * 129, "-x"]
)
def test_a_name_that_is_not_a_plain_word_reads_and_writes_nothing(tmp_path: Path, name: str) -> None:
    store = SiteStore(tmp_path / "site")
    with pytest.raises(ValueError, match="plain word"):
        store.save_batchnorm(name, 1, state(1))
    with pytest.raises(ValueError, match="plain word"):
        store.load_batchnorm(name, 1)
    assert tree(tmp_path) == {}


def test_a_translator_is_loaded_as_it_was_saved_and_by_its_job_alone(tmp_path: Path) -> None:
    store = SiteStore(tmp_path)
    assert store.load_bridge("job") is None
    store.save_bridge("job", state(2.5))
    store.save_batchnorm("job", 1, state(1))
    for round_ in range(2, 9):
        store.save_batchnorm("job", round_, state(round_))
    assert mean_of(store.load_bridge("job")) == 2.5
    assert mean_of(SiteStore(tmp_path).load_bridge("job")) == 2.5
    assert mean_of(store.load_batchnorm("job", 9)) == 8
    assert store.load_bridge("job-2") is None


@pytest.mark.parametrize("keep", [0, 5, 60, -1])
def test_a_truncated_translator_counts_as_absent(tmp_path: Path, keep: int) -> None:
    store = SiteStore(tmp_path)
    store.save_bridge("job", state(1))
    path = tmp_path / "jobs" / "job" / "translator.safetensors"
    path.write_bytes(path.read_bytes()[:keep])
    assert store.load_bridge("job") is None


@pytest.mark.parametrize("name", ["../evil", "", ".", "a/b"])
def test_a_translator_is_kept_under_a_plain_word_only(tmp_path: Path, name: str) -> None:
    store = SiteStore(tmp_path / "site")
    with pytest.raises(ValueError, match="plain word"):
        store.save_bridge(name, state(1))
    with pytest.raises(ValueError, match="plain word"):
        store.load_bridge(name)
    assert tree(tmp_path) == {}
