"""Examples are chosen by their class alone, and answers are counted model by model."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from server.example_votes import Votes, asked, votes
from server.examples import MOST, Said, chosen, said_by
from socket_core.data.loader import Loader, Preprocessing
from tests.core import builders as core
from tests.server.rows import row


def test_the_first_image_of_each_class_is_an_example() -> None:
    labels = np.array([2, 2, 0, 4, 0, 2])
    assert chosen(labels, 5).tolist() == [2, 0, 3]  # of classes 0, 2 and 4; there is none of 1 and 3


@given(st.lists(st.integers(0, 11), min_size=1, max_size=60))
def test_examples_are_of_distinct_classes_in_order_and_few(labels: list[int]) -> None:
    found = [labels[i] for i in chosen(np.array(labels), 12)]
    assert found == sorted(set(labels))[:MOST]


def test_what_a_network_says_of_an_image_is_its_softmax_and_knows_no_other_image() -> None:
    network, data = core.tiny_network(), core.site_data(12, 4)
    prep = Preprocessing.of(core.experiment().data)
    x = Loader(data.tr, prep, torch.device("cpu")).batch(np.arange(12))
    with torch.no_grad():
        logits = network.eval()(x).numpy().astype(np.float64)
    shares = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    said = said_by(network, data.tr, prep, "site-01")
    assert said.site == "site-01"
    assert list(said.predicted) == shares.argmax(1).tolist()
    assert said.probability == pytest.approx(shares.max(1), abs=1e-4)
    for i in (0, 7):
        alone = said_by(network, data.tr.take(np.array([i])), prep)
        assert alone.predicted == said.predicted[i : i + 1]


def test_votes_are_of_all_seeds_and_sites() -> None:
    rows = [
        row("socket", seed=0, said=(Said("site-00", (1, 0), (0.5, 0.9)), Said("site-01", (0, 0), (0.7, 0.9)))),
        row("socket", seed=1, said=(Said("site-00", (1, 1), (0.6, 0.9)), Said("site-01", (0, 1), (0.6, 0.9)))),
    ]
    for found, expected in (
        (votes(rows, 0, 1), Votes(None, 2, 4, 2, 0.6)),  # two of each
        (votes(rows[1:], 1, 0), Votes(1, 2, 2, 0, 0.9)),
        (votes(rows, 1, 1), Votes(None, 2, 4, 2, 0.9)),
        (votes(rows[:1], 0, 0), Votes(None, 1, 2, 1, 0.6)),
    ):
        assert found is not None
        assert found[:4] == expected[:4]
        assert found.probability == pytest.approx(expected.probability)
    assert votes([row("socket")], 0, 0) is None


def test_rows_that_were_asked_stand_in_their_order() -> None:
    said = (Said("", (0,), (1.0,)),)
    rows = [row("b", "local", said=said), row("a", "federated"), row("b", "centralised", said=said)]
    assert asked(rows) == [("b", {"local": [rows[0]], "centralised": [rows[2]]})]
