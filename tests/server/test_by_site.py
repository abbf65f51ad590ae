"""One site's counts become its accuracies and distributions."""

from __future__ import annotations

import numpy as np

from server.by_site import AtSite, at_site, class_counts


def test_counts_of_a_site_are_shares_and_sums_of_its_tables() -> None:
    held_out = np.array([[6, 2, 0], [1, 3, 0], [4, 0, 4]])
    own = np.array([[1, 0, 0], [3, 0, 0], [0, 0, 0]])
    found = at_site("site-01", held_out, own, (1, 3, 0))
    assert found == AtSite("site-01", 13 / 20, 1 / 4, (1, 3, 0), (11, 5, 4))
    assert at_site("site-01", held_out, None, (1, 3, 0)).transductive is None


def test_labels_are_counted_by_class_with_classes_that_a_site_lacks() -> None:
    assert class_counts(np.array([2, 0, 2, 2]), 5) == (1, 0, 3, 0, 0)
    assert class_counts(np.zeros(0, dtype=np.int64), 2) == (0, 0)
