"""Agreement of two raters beyond chance, and the trust that it earns."""

from __future__ import annotations

from random import Random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from socket_core.agreement import PairProbe, cohens_kappa

K = 4
Answers = list[tuple[int, int]]
answers = st.lists(st.tuples(st.integers(0, K - 1), st.integers(0, K - 1)), min_size=1, max_size=30)


def _kappa(pairs: Answers) -> float:
    first, second = torch.tensor(pairs, dtype=torch.int64).reshape(-1, 2).unbind(1)
    return cohens_kappa(first, second, K)


def _table(counts: list[list[int]]) -> Answers:
    return [(i, j) for i, row in enumerate(counts) for j, n in enumerate(row) for _ in range(n)]


@pytest.mark.parametrize(
    ("counts", "kappa"),
    [
        ([[20, 5], [10, 15]], 0.4),  # observed 0.7, expected 0.5
        ([[45, 15], [25, 15]], 6 / 46),  # 0.6 and 0.54
        ([[0, 5], [5, 0]], -1.0),
        ([[5, 5], [5, 5]], 0.0),
        ([[2, 0, 1], [0, 3, 0], [1, 0, 3]], (0.8 - 0.34) / (1 - 0.34)),
    ],
)
def test_kappa_of_tables_computed_by_hand(counts: list[list[int]], kappa: float) -> None:
    assert _kappa(_table(counts)) == pytest.approx(kappa)


@given(answers, st.permutations(range(K)), st.randoms(use_true_random=False))
def test_names_of_classes_the_order_of_images_and_of_raters_do_not_matter(
    pairs: Answers, names: list[int], order: Random
) -> None:
    shuffled = list(pairs)
    order.shuffle(shuffled)
    renamed = [(names[a], names[b]) for a, b in shuffled]
    assert _kappa(renamed) == pytest.approx(_kappa(pairs), abs=1e-12)
    assert _kappa([(b, a) for a, b in pairs]) == pytest.approx(_kappa(pairs), abs=1e-12)
    assert -1.0 - 1e-12 <= _kappa(pairs) <= 1.0


@given(answers, st.integers(0, K - 1))
def test_who_always_says_the_same_agrees_by_chance_only(pairs: Answers, word: int) -> None:
    assert _kappa([(a, word) for a, _ in pairs]) == pytest.approx(0.0, abs=1e-12)


@given(answers)
def test_who_repeats_the_other_agrees_fully(pairs: Answers) -> None:
    several = len({a for a, _ in pairs}) > 1
    assert _kappa([(a, a) for a, _ in pairs]) == pytest.approx(1.0 if several else 0.0)


def test_nobody_agrees_on_nothing() -> None:
    assert _kappa([]) == 0.0


def _probe(said: list[int], again: list[int]) -> PairProbe:
    """A probe whose target images are their positions."""
    positions = torch.arange(len(said), dtype=torch.float32).view(-1, 1, 1, 1)
    return PairProbe(positions, torch.eye(K)[said], 3 * torch.eye(K)[again])


def _says(said: list[int]) -> Tensor:
    return torch.eye(K)[said]


HALF = [0, 0, 0, 0, 1, 1, 1, 1]


@pytest.mark.parametrize(
    ("answer", "agreement", "trust"),
    [
        ([0, 0, 0, 0, 1, 1, 1, 1], 1.0, 1.0),
        ([0, 0, 0, 1, 0, 1, 1, 1], 0.5, 1.0),  # half of what the source reaches is enough
        ([0, 0, 0, 1, 0, 0, 1, 1], 0.25, 0.5),
        ([0, 0, 1, 1, 0, 0, 1, 1], 0.0, 0.0),
        ([1, 1, 1, 1, 0, 0, 0, 0], -1.0, 0.0),
        ([2, 2, 2, 2, 2, 2, 2, 2], 0.0, 0.0),
    ],
)
def test_trust_is_agreement_over_half_of_what_the_source_reaches(
    answer: list[int], agreement: float, trust: float
) -> None:
    probe = _probe(HALF, HALF)
    assert probe.ceiling == 1.0
    assert probe.agreement(lambda _: _says(answer)) == pytest.approx(agreement)
    assert probe.trust(agreement) == pytest.approx(trust)


def test_a_source_that_disagrees_with_itself_asks_for_less() -> None:
    probe = _probe(HALF, [0, 0, 0, 1, 0, 1, 1, 1])
    assert probe.ceiling == pytest.approx(0.5)
    agreement = probe.agreement(lambda _: _says([0, 0, 0, 1, 0, 0, 1, 1]))
    assert probe.trust(agreement) == pytest.approx(1.0)  # 0.25 of 0.25


@pytest.mark.parametrize("again", [[0, 0, 1, 1, 0, 0, 1, 1], [1, 1, 1, 1, 0, 0, 0, 0]])
def test_nobody_is_trusted_where_the_source_does_not_know_itself(again: list[int]) -> None:
    assert _probe(HALF, again).trust(1.0) == 0.0


def test_the_probe_shows_the_target_halves_and_keeps_no_graph() -> None:
    seen: list[Tensor] = []
    weight = torch.ones(1, requires_grad=True)

    def predict(x: Tensor) -> Tensor:
        seen.append(x)
        out = _says(HALF) * weight
        assert not out.requires_grad
        return out

    _probe(HALF, HALF).agreement(predict)
    assert [int(v) for v in seen[0].flatten()] == list(range(8))


@settings(max_examples=50)
@given(answers)
def test_trust_lies_between_nothing_and_full(pairs: Answers) -> None:
    said = [a for a, _ in pairs]
    probe = _probe(said, said)
    trust = probe.trust(probe.agreement(lambda _: _says([b for _, b in pairs])))
    assert 0.0 <= trust <= 1.0
