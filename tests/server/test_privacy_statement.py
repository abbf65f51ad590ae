"""Of each unit that was spent the statement says what its epsilon covers and what not, and nothing of other units."""

from __future__ import annotations

from server.by_site import AtSite
from server.privacy_statement import RECORD_COVERS, SIMULATED, SITE_COVERS, UNCOVERED, statement
from server.report import privacy
from server.results import Row
from socket_core.privacy.accounting import NOT_COVERED, SITE_NOT_COVERED
from tests.server.rows import row

PAIR = row("socket", steps=3, epsilon=2.99, epsilon_unit="record-level; delta 1e-05")
SITE = row("socket", label="whole", steps=3, site_epsilon=8.0, site_epsilon_unit="whole site; delta 1e-05")
OPEN = row("shot", "centralised", steps=3)


def _items(rows: list[Row]) -> list[tuple[str, ...]]:
    return [part.items for part in statement(rows) if part.items]


def test_a_unit_is_there_with_what_it_covers_and_what_not_only_where_it_was_spent() -> None:
    spent = tuple(privacy([PAIR]))
    assert _items([PAIR]) == [spent, RECORD_COVERS, NOT_COVERED, UNCOVERED]
    assert _items([SITE]) == [tuple(privacy([SITE])), SITE_COVERS, SITE_NOT_COVERED, UNCOVERED]
    both = _items([PAIR, SITE])
    assert both[1:] == [RECORD_COVERS, NOT_COVERED, SITE_COVERS, SITE_NOT_COVERED, UNCOVERED]


def test_without_any_epsilon_it_is_unbounded() -> None:
    assert _items([OPEN]) == [("No differential privacy where no epsilon is named: there it is unbounded.",)]
    assert _items([row("unadapted", "unadapted")]) == [("nothing was trained",)]


def test_labels_of_simulated_sites_are_owned_up_to() -> None:
    assert SIMULATED not in [part.lead for part in statement([OPEN])]
    told = row("shot", by_site=(AtSite("site-00", 0.5, 0.5, (1, 1), (1, 1)),))
    assert SIMULATED in [part.lead for part in statement([told])]
